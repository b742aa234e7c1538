"""The one thread that touches the model: drain, reap, plan, run, commit, emit.

It blocks on its inbox while there is nothing to do. A failed step is tried again sequence by
sequence, so that only the culprits fail; if the thread itself dies, `on_death` is called, so that
everybody who waits learns it.
"""

import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass

from chat_worker.engine.disk_prefix_cache import DiskPrefixCache
from chat_worker.engine.outputs import (
    EngineOutput,
    PromptScored,
    QueuePosition,
    SampledToken,
    SequenceAdmitted,
    SequenceEnded,
    SequenceFailed,
)
from chat_worker.engine.prefix_offload import load_prefix, save_prefixes, shed_slots
from chat_worker.engine.runner import ModelRunner, Plan, RunFailed, ScheduledTokens
from chat_worker.engine.sampling import ConstraintFailed, DegenerateLogits, LogitsRow, Scored, score
from chat_worker.engine.scheduler import Admission, Scheduler
from chat_worker.engine.sequence import EndReason, Sequence

# Commands to the loop.


@dataclass(frozen=True, slots=True)
class AddSequences:
    sequences: list[Sequence]


@dataclass(frozen=True, slots=True)
class EndSequences:
    """Stop these sequences without an output."""

    sequences: list[Sequence]


@dataclass(frozen=True, slots=True)
class ShedCache:
    """Give the cache's memory back, once nothing runs; the next `AddSequences` takes that back."""


class EngineLoop:
    """Runs sequences until it is closed. All but its thread's own may be called from anywhere.

    Args:
        emit: receives the outputs of each step; called on the loop's thread, must not block.
        on_death: called on the loop's thread if it dies of an unexpected error.
        disk_cache: prefixes that outlive the process, if any do.
    """

    def __init__(
        self,
        runner: ModelRunner,
        emit: Callable[[list[EngineOutput]], None],
        on_death: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        disk_cache: DiskPrefixCache | None = None,
    ) -> None:
        self._runner = runner
        self._scheduler = Scheduler(runner.limits)
        self._emit = emit
        self._on_death = on_death
        self._clock = clock
        self._disk_cache = disk_cache
        self._inbox: queue.SimpleQueue[AddSequences | EndSequences | ShedCache | None] = (
            queue.SimpleQueue()
        )
        self._is_to_shed = False
        self._outputs: list[EngineOutput] = []
        self._positions: dict[Sequence, int] = {}
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def begin(self, sequences: list[Sequence]) -> None:
        now = self._clock()
        for sequence in sequences:
            sequence.submitted_s = now
        self._inbox.put(AddSequences(sequences))

    def end(self, sequences: list[Sequence]) -> None:
        self._inbox.put(EndSequences(sequences))

    def shed(self) -> None:
        self._inbox.put(ShedCache())

    def close(self, timeout_s: float) -> None:
        """Stop after the current step and free the model."""
        self._inbox.put(None)
        self._thread.join(timeout_s)

    def _main(self) -> None:
        try:
            while self._drain():
                self._step()
            if self._disk_cache is not None:
                save_prefixes(self._disk_cache, self._scheduler, self._runner)
            self._runner.close()
        except Exception:  # noqa: BLE001 - the thread's outermost loop: who waits must learn of it
            traceback.print_exc(file=sys.stderr)
            self._on_death()

    def _drain(self) -> bool:
        """Take all commands; wait for one while idle. False: close."""
        if self._scheduler.is_idle:
            self._rest()
            commands = [self._inbox.get()]
        else:
            commands = []
        while not self._inbox.empty():
            commands.append(self._inbox.get_nowait())
        for command in commands:
            match command:
                case AddSequences(sequences):
                    self._queue(sequences)
                case EndSequences(sequences):
                    for sequence in sequences:
                        self._scheduler.remove(sequence)
                case ShedCache():
                    self._is_to_shed = True
                case None:
                    return False
        return True

    def _queue(self, sequences: list[Sequence]) -> None:
        self._is_to_shed = False
        for sequence in sequences:
            if self._disk_cache is not None:
                load_prefix(self._disk_cache, self._scheduler, self._runner, sequence)
            self._scheduler.add(sequence)

    def _rest(self) -> None:
        for op in self._scheduler.pending_ops():
            self._runner.apply(op)
        if self._is_to_shed:
            self._is_to_shed = False
            shed_slots(self._disk_cache, self._scheduler, self._runner)
        self._scheduler.slots.check_integrity(self._runner.length)

    def _step(self) -> None:
        plan, admissions = self._scheduler.schedule()
        self._emit_admissions(admissions)
        self._emit_positions()
        self._flush()
        try:
            self._compute(plan)
        except RunFailed:
            self._undo(plan.items)
            self._retry_alone(plan.items)
        self._flush()

    def _compute(self, plan: Plan) -> None:
        for op in plan.ops:
            self._runner.apply(op)
        if plan.items:
            began = self._clock()
            rows = self._runner.run(plan.items)
            self._scheduler.commit(plan.items, self._clock() - began)
            self._take_rows(plan.items, rows)

    def _undo(self, items: list[ScheduledTokens]) -> None:
        for op in self._scheduler.restore(items):
            self._runner.apply(op)

    def _retry_alone(self, items: list[ScheduledTokens]) -> None:
        for item in items:
            try:
                self._compute(Plan([item.without_guess()]))
            except RunFailed:
                self._undo([item])
                self._fail(item.sequence)

    def _fail(self, sequence: Sequence, *, by_constraint: bool = False) -> None:
        self._scheduler.forget(sequence)
        self._outputs.append(SequenceFailed(sequence, by_constraint))

    def _take_rows(self, items: list[ScheduledTokens], rows: Rows[LogitsRow]) -> None:
        at = 0
        for item in items:
            own = rows[at : at + item.n_rows]
            at += item.n_rows
            if item.sequence.n_unscored:
                self._score_prompt(item, own)
            if item.completes:
                self._choose(item, own[item.n_rows - 1 - len(item.guess) :])

    def _choose(self, item: ScheduledTokens, rows: Rows[LogitsRow]) -> None:
        """Sample from row after row, as long as the guess agrees."""
        n_right = 0
        broken: Exception | None = None
        for row, guessed in zip(rows, (*item.guess, None), strict=True):
            try:
                token = self._sample(item.sequence, row)
            except (DegenerateLogits, ConstraintFailed) as error:
                broken = error
                break
            if token is None or token != guessed:
                break
            n_right += 1
        if item.guess:
            self._scheduler.settle(item, n_right)
        if broken is not None:
            self._fail(item.sequence, by_constraint=isinstance(broken, ConstraintFailed))

    def _score_prompt(self, item: ScheduledTokens, rows: Rows[LogitsRow]) -> None:
        sequence = item.sequence
        # The row of position i says how likely token i + 1 was; the last one is of no prompt token.
        following = sequence.tokens[
            item.start + 1 : min(item.start + 1 + len(rows), sequence.n_prompt)
        ]
        scores = [
            score(row, token, sequence.n_top or 0)
            for row, token in zip(rows, following, strict=False)
        ]
        # What a preemption made us compute again has been reported.
        fresh = scores[sequence.n_prompt - 1 - sequence.n_unscored - item.start :]
        sequence.n_unscored -= len(fresh)
        self._outputs.append(PromptScored(sequence, fresh))

    def _sample(self, sequence: Sequence, row: LogitsRow) -> int | None:
        """The token that was added; None if the sequence has ended.

        Raises:
            DegenerateLogits: there is none to choose.
            ConstraintFailed: none that the constraint allows.
        """
        if len(sequence.tokens) >= sequence.limit:
            self._end(sequence, "length")
            return None
        raw = row.copy() if sequence.n_top is not None else row
        token = sequence.sampler.pick(row)
        if not sequence.n_generated:
            sequence.first_token_s = self._clock()
        scored = score(raw, token, sequence.n_top) if sequence.n_top is not None else None
        if token in sequence.end_tokens:
            self._end(sequence, "stop", scored if sequence.score_prompt else None)
            return None
        sequence.tokens.append(token)
        self._outputs.append(SampledToken(sequence, token, scored))
        if sequence.sampler.is_complete:
            self._end(sequence, "stop")
            return None
        if len(sequence.tokens) >= sequence.limit:
            self._end(sequence, "length")
            return None
        return token

    def _end(self, sequence: Sequence, reason: EndReason, scored: Scored | None = None) -> None:
        self._scheduler.remove(sequence)
        self._outputs.append(SequenceEnded(sequence, reason, scored))

    def _emit_admissions(self, admissions: list[Admission]) -> None:
        for admission in admissions:
            sequence = admission.sequence
            self._positions.pop(sequence, None)
            if sequence.n_cached is None:
                sequence.n_cached = admission.n_cached
                sequence.admitted_s = self._clock()
                self._outputs.append(SequenceAdmitted(sequence))

    def _emit_positions(self) -> None:
        """Tell those who never ran yet where they are in the queue, when that changed."""
        never_ran = [s for s in self._scheduler.waiting if s.n_cached is None]
        for position, sequence in enumerate(never_ran, start=1):
            if self._positions.get(sequence) != position:
                self._positions[sequence] = position
                self._outputs.append(QueuePosition(sequence, position))
        if not never_ran:
            self._positions.clear()

    def _flush(self) -> None:
        if self._outputs:
            outputs, self._outputs = self._outputs, []
            self._emit(outputs)
