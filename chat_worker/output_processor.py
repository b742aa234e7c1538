"""The thread that turns the engine's outputs into text and writes them to the pipe.

Sending a delta to the client takes processor time from the model; on a small machine it is a large
part of the time of one token. After the first tokens of an answer, tokens that arrive faster than
people read (`delta_pacing.frame_s`) are therefore sent together, and so are tokens that accumulate
while the worker reads slowly. The deltas of all answers are sent in the same step, so that the
worker and the gateway wake up once for all of them. There is no timer: held tokens are sent with
the next token.
"""

import math
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chat_worker.backend import Tokenizer
from chat_worker.delta_pacing import OpenAnswer, OpenChoice, frame_s
from chat_worker.engine.outputs import (
    EngineOutput,
    PromptScored,
    QueuePosition,
    SampledToken,
    SequenceAdmitted,
    SequenceEnded,
    SequenceFailed,
)
from chat_worker.engine.sampling import Scored
from chat_worker.engine.sequence import EndReason, Sequence
from chat_worker.input_processor import PreparedInput
from chat_worker.pipe_messages import (
    Candidate,
    ChoiceEnd,
    Delta,
    Finished,
    Queued,
    Started,
    TokenLogprob,
)
from chat_worker.text.reply import Part
from common.error_texts import ErrorText
from common.errors import BackendFailure, InvalidRequest, ServingError
from worker_runtime.engine_process.host import Outbox

# Time limit for writing the outputs of one step; a worker that does not read sends no requests.
STEP_LIMIT_S = 60.0


@dataclass(frozen=True)
class _Open:
    call: OpenAnswer


@dataclass(frozen=True)
class _Abandon:
    call_id: int


@dataclass(frozen=True)
class _Die:
    done: threading.Event


class OutputProcessor:
    """Writes the answers of all calls.

    Args:
        marks: control tokens that mark tool calls and thinking.
        end_sequences: asks the loop to end sequences in which a stop string was found.
    """

    def __init__(
        self,
        outbox: Outbox,
        tokenizer: Tokenizer,
        marks: frozenset[int],
        clock: Callable[[], float],
        end_sequences: Callable[[list[Sequence]], None],
    ) -> None:
        self._outbox = outbox
        self._tokenizer = tokenizer
        self._marks = marks
        self._clock = clock
        self._end_sequences = end_sequences
        self._inbox: queue.SimpleQueue[list[EngineOutput] | _Open | _Abandon | _Die] = (
            queue.SimpleQueue()
        )
        self._calls: dict[int, OpenAnswer] = {}
        self._framed_s = 0.0
        self._thread = threading.Thread(target=self._main, name="output", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def open(self, call_id: int, prepared: PreparedInput) -> None:
        """Expect outputs of this call; called before its sequences begin."""
        choices = [OpenChoice(prepared.reply_format) for _ in prepared.sequences]
        self._inbox.put(_Open(OpenAnswer(call_id, prepared, choices)))

    def abandon(self, call_id: int) -> None:
        """End the sequences of a call whose client has left. Unknown ids are ignored."""
        self._inbox.put(_Abandon(call_id))

    def write(self, outputs: list[EngineOutput]) -> None:
        self._inbox.put(outputs)

    def fail_all(self, timeout_s: float) -> None:
        """The engine died: end every call with an error; returns when all errors are written."""
        done = threading.Event()
        self._inbox.put(_Die(done))
        done.wait(timeout_s)

    def _main(self) -> None:
        try:
            while True:
                entries = [self._inbox.get()]
                while not self._inbox.empty():
                    entries.append(self._inbox.get_nowait())
                with self._outbox.watchdog.step("scribe", STEP_LIMIT_S):
                    for entry in entries:
                        self._take(entry)
                    self._send_deltas()
        except OSError:
            pass  # the pipe is closed: the process is about to end
        except Exception:  # noqa: BLE001 - the thread's outermost loop: no answer would ever end
            traceback.print_exc(file=sys.stderr)
            for call_id in list(self._calls):
                self._outbox.ended(call_id, BackendFailure(ErrorText("answer_not_written")))

    def _take(self, entry: list[EngineOutput] | _Open | _Abandon | _Die) -> None:
        match entry:
            case _Open(call):
                self._calls[call.id] = call
            case _Abandon(call_id):
                self._abandon(call_id)
            case _Die(done):
                for call_id in list(self._calls):
                    self._fail(call_id, BackendFailure(ErrorText("engine_stopped")))
                done.set()
            case list() as outputs:
                for output in outputs:
                    if output.sequence.call_id in self._calls:
                        self._note(self._calls[output.sequence.call_id], output)

    def _abandon(self, call_id: int) -> None:
        call = self._calls.pop(call_id, None)
        if call is not None:
            self._end_sequences(call.prepared.sequences)

    def _note(self, call: OpenAnswer, output: EngineOutput) -> None:
        choice = call.choices[output.sequence.choice]
        match output:
            case QueuePosition(position=position):
                if not call.started:
                    self._outbox.event(call.id, Queued(position))
            case SequenceAdmitted(sequence):
                self._admitted(call, sequence)
            case PromptScored(scores=scores):
                choice.logprobs += [self._logprob(scored) for scored in scores]
            case SampledToken(sequence, token, scored):
                self._token(call, choice, sequence, token, scored)
            case SequenceEnded(sequence, reason, scored):
                self._ended(call, choice, sequence, reason, scored)
            case SequenceFailed(by_constraint=by_constraint):
                self._end_sequences(call.prepared.sequences)
                self._fail(call.id, _failure(by_constraint))

    def _admitted(self, call: OpenAnswer, sequence: Sequence) -> None:
        if call.started:
            return
        call.started = True
        for choice in call.choices:
            choice.reply.prepend(call.prepared.echo.decode("utf-8", "replace"))
            if sequence.score_prompt:
                # No token precedes the first one, so it has no log-probability.
                choice.logprobs.append(self._logprob(Scored(sequence.tokens[0], math.nan)))
        fitted = call.prepared.fitted
        self._outbox.event(
            call.id,
            Started(
                prompt_tokens=sequence.n_prompt,
                cached_tokens=sequence.n_cached or 0,
                trimmed_tokens=fitted.trimmed_tokens,
                trimmed_messages=fitted.trimmed_messages,
                ignored=call.prepared.ignored,
            ),
        )

    def _token(
        self,
        call: OpenAnswer,
        choice: OpenChoice,
        sequence: Sequence,
        token: int,
        scored: Scored | None,
    ) -> None:
        if choice.end is not None:
            return  # computed before the loop received the request to end
        choice.n_tokens += 1
        choice.n_unsent += 1
        if scored is not None:
            choice.logprobs.append(self._logprob(scored))
        is_shown = choice.shows_marks and token in self._marks
        choice.reply.push(self._tokenizer.piece(token, show_control=is_shown))
        if choice.reply.is_complete:
            self._end_sequences([sequence])
            self._end_choice(call, choice, sequence, "stop")

    def _ended(
        self,
        call: OpenAnswer,
        choice: OpenChoice,
        sequence: Sequence,
        reason: EndReason,
        scored: Scored | None,
    ) -> None:
        if choice.end is not None:
            return
        if scored is not None:
            choice.logprobs.append(self._logprob(scored))
        choice.reply.flush()
        self._end_choice(call, choice, sequence, reason)

    def _end_choice(
        self, call: OpenAnswer, choice: OpenChoice, sequence: Sequence, reason: EndReason
    ) -> None:
        stop = choice.reply.stop_sequence
        ended = reason if stop is None else "stop"
        calls = ended == "stop" and choice.reply.has_calls
        choice.end = ChoiceEnd(sequence.choice, "tool_calls" if calls else ended, stop)
        call.finished_sequences.append(sequence)
        if len(call.finished_sequences) < len(call.choices):
            return
        rest = _deltas(call, is_frame=True)
        last: list[Delta | Finished] = [*rest, self._finished(call)]
        self._outbox.answer(call.id, *last)
        del self._calls[call.id]

    def _finished(self, call: OpenAnswer) -> Finished:
        first = call.prepared.sequences[0]
        now = self._clock()
        first_token_s = min(
            (s.first_token_s for s in call.prepared.sequences if s.first_token_s), default=now
        )
        return Finished(
            choices=[choice.end for choice in call.choices if choice.end is not None],
            prompt_tokens=first.n_prompt,
            completion_tokens=sum(choice.n_tokens for choice in call.choices),
            cached_tokens=first.n_cached or 0,
            reasoning_tokens=sum(choice.reply.n_reasoning_tokens for choice in call.choices),
            queue_s=first.admitted_s - first.submitted_s,
            prefill_s=first_token_s - first.admitted_s,
            decode_s=now - first_token_s,
        )

    def _send_deltas(self) -> None:
        now = self._clock()
        calls = self._calls.values()
        n_answers = sum(len(call.choices) for call in calls if call.started)
        is_frame = now - self._framed_s >= frame_s(n_answers)
        due = [(call.id, delta) for call in calls for delta in _deltas(call, is_frame=is_frame)]
        if due:
            self._outbox.events(due)
            # A step without anything to send, such as a call that opens, does not use up a frame.
            if is_frame:
                self._framed_s = now

    def _fail(self, call_id: int, error: ServingError) -> None:
        self._calls.pop(call_id, None)
        self._outbox.ended(call_id, error)

    def _logprob(self, scored: Scored) -> TokenLogprob:
        def candidate(token: int, logprob: float) -> Candidate:
            return Candidate(token, self._tokenizer.piece(token, show_control=True), logprob)

        return TokenLogprob(
            candidate(scored.token, scored.logprob), [candidate(*pair) for pair in scored.top]
        )


def _deltas(call: OpenAnswer, *, is_frame: bool) -> Iterator[Delta]:
    """The deltas to send of an answer; they are marked as sent."""
    for index, choice in enumerate(call.choices):
        if not choice.is_due(is_frame=is_frame):
            continue
        # Log-probabilities may be sent before their text, which may be held back.
        for part in choice.reply.take() or [Part()]:
            yield Delta(
                index, part.text, choice.n_unsent, choice.logprobs, part.reasoning, part.calls
            )
            choice.n_unsent, choice.logprobs = 0, []


def _failure(by_constraint: bool) -> ServingError:
    if by_constraint:
        return InvalidRequest(
            ErrorText("format_dead_end"),
            suggestions=(ErrorText("make_simpler"), ErrorText("bound_repeats")),
        )
    return BackendFailure(ErrorText("model_failed"))
