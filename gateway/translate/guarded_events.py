"""Passes on the events of an answer without what the guard's rules refuse.

Of each choice, its reasoning, its text and the arguments of each tool call are texts of their own.
A text ends where another begins, and before the end of the answer. Arguments wait until the call
is whole: only then is it certain what their JSON says.
"""

from collections.abc import Callable, Iterable, Iterator

from gateway.guard.held_text import HeldText, Released
from gateway.guard.json_texts import checked_json
from gateway.guard.matcher import Matcher
from gateway.guard.policy import Rule
from protos.y26hkx.v1 import chat_pb2, common_pb2

FILTERED = chat_pb2.ChoiceEnd.REASON_CONTENT_FILTER


class GuardedEvents:
    """The events of one call.

    Args:
        request: what is answered. It loses its log-probabilities, which name the tokens of what is
            held back.
        hold_back: see `HeldText`.
        on_match: called with each rule that matches in what leaves, or that ends a choice.
    """

    def __init__(
        self,
        request: chat_pb2.GenerateRequest,
        matcher: Matcher,
        hold_back: int,
        on_match: Callable[[Rule], None],
    ) -> None:
        self._choices = [
            _Choice(number, matcher, hold_back, on_match) for number in range(max(1, request.n))
        ]
        self._ignored = ["logprobs"] if request.HasField("top_logprobs") else []
        request.ClearField("top_logprobs")
        self._usage = common_pb2.Usage()

    @property
    def is_over(self) -> bool:
        """Whether no choice is left: the worker need not go on."""
        return all(choice.is_over for choice in self._choices)

    def see(
        self, event: chat_pb2.GenerateEvent, on_event: Callable[[chat_pb2.GenerateEvent], None]
    ) -> list[chat_pb2.GenerateEvent]:
        """What leaves, now that `event` has come; with the last event, if no choice is left.

        Args:
            on_event: told of all that the worker has computed, and how it ends.
        """
        passed = self._take(event)
        last = passed[-1] if passed and passed[-1].HasField("finished") else None
        if not event.HasField("finished"):
            on_event(event)
        if last is not None:
            on_event(last)
        return passed

    def _take(self, event: chat_pb2.GenerateEvent) -> list[chat_pb2.GenerateEvent]:
        if event.HasField("delta"):
            return self._delta(event.delta)
        if event.HasField("finished"):
            return self._finish(event.finished)
        started = event.started
        self._usage.prompt_tokens = started.prompt_tokens
        self._usage.cached_tokens = started.cached_tokens
        started.ignored.extend(self._ignored)
        return [event]

    def _delta(self, delta: chat_pb2.Delta) -> list[chat_pb2.GenerateEvent]:
        self._usage.completion_tokens += delta.n_tokens
        passed = _events(self._choices[delta.choice].take(delta))
        if self.is_over:
            ends = [chat_pb2.ChoiceEnd(choice=at) for at in range(len(self._choices))]
            passed += self._finish(chat_pb2.Finished(choices=ends, usage=self._usage))
        return passed

    def _finish(self, finished: chat_pb2.Finished) -> list[chat_pb2.GenerateEvent]:
        rest = [event for choice in self._choices for event in _events(choice.end())]
        last = chat_pb2.GenerateEvent(finished=finished)
        for end in last.finished.choices:
            if self._choices[end.choice].is_over:
                end.ClearField("stop_sequence")
                end.reason = FILTERED
        return [*rest, last]


class _Choice:
    def __init__(
        self, number: int, matcher: Matcher, hold_back: int, on_match: Callable[[Rule], None]
    ) -> None:
        self._number = number
        self._matcher = matcher
        self._hold_back = hold_back
        self._on_match = on_match
        # What is written now: the name of its field, and what waits of it.
        self._field = ""
        self._held: HeldText | None = None
        self._call: chat_pb2.ToolCallDelta | None = None
        self._arguments: list[str] = []
        self.is_over = False

    def take(self, delta: chat_pb2.Delta) -> Iterator[chat_pb2.Delta]:
        if self.is_over:
            return
        if delta.reasoning:
            yield from self._write("reasoning", delta.reasoning)
        if delta.text:
            yield from self._write("text", delta.text)
        for piece in delta.tool_calls:
            yield from self._call_on(piece)

    def end(self) -> Iterator[chat_pb2.Delta]:
        """The rest of what is written now."""
        if self._held is not None:
            yield from self._leave(self._held.end())
        if self._call is not None and not self.is_over:
            yield from self._whole_call(self._call)
        self._field, self._held, self._call = "", None, None

    def _write(self, field: str, text: str) -> Iterator[chat_pb2.Delta]:
        if self._held is None or field != self._field:
            yield from self.end()
            self._field, self._held = field, HeldText(self._matcher, self._hold_back)
        yield from self._leave(self._held.push(text))

    def _leave(self, released: Released) -> Iterator[chat_pb2.Delta]:
        if self.is_over:
            return
        self._note(released.rules)
        if released.text:
            delta = chat_pb2.Delta(choice=self._number)
            setattr(delta, self._field, released.text)
            yield delta
        if released.blocked is not None:
            self._block(released.blocked)

    def _call_on(self, piece: chat_pb2.ToolCallDelta) -> Iterator[chat_pb2.Delta]:
        if self._call is None or piece.index != self._call.index:
            yield from self.end()
            self._call, self._arguments = piece, []
        self._arguments.append(piece.arguments)

    def _whole_call(self, first: chat_pb2.ToolCallDelta) -> Iterator[chat_pb2.Delta]:
        arguments, matches = checked_json("".join(self._arguments), self._matcher)
        block = next((m.rule for m in matches if m.rule.action == "block"), None)
        if block is not None:
            self._block(block)
            return
        self._note(match.rule for match in matches)
        call = chat_pb2.ToolCallDelta(
            index=first.index, id=first.id, name=first.name, arguments=arguments
        )
        yield chat_pb2.Delta(choice=self._number, tool_calls=[call])

    def _block(self, rule: Rule) -> None:
        self.is_over = True
        self._held = self._call = None
        self._on_match(rule)

    def _note(self, rules: Iterable[Rule]) -> None:
        for rule in rules:
            self._on_match(rule)


def _events(deltas: Iterable[chat_pb2.Delta]) -> list[chat_pb2.GenerateEvent]:
    return [chat_pb2.GenerateEvent(delta=delta) for delta in deltas]
