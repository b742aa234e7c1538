"""Decides what the next step computes. Pure policy: no model, no threads, no clock of its own.

Each step computes one token for every decoding sequence, and as much of the prompts as `prefill`
allows. Waiting sequences are admitted in order while there are cells for their tokens. When cells
run out, the newest sequence returns to the front of the queue and is computed again later.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from chat_worker.engine.kept_costs import MeasuredCosts
from chat_worker.engine.prefill import Prefill
from chat_worker.engine.runner import CacheOp, Limits, Plan, ScheduledTokens
from chat_worker.engine.sequence import Sequence
from chat_worker.engine.slots import Slots, Taken, common_prefix
from chat_worker.engine.step_costs import StepCosts
from chat_worker.engine.turns import ANSWER_WAIT_S

# From this length on, waiting for a running sequence to compute a shared prefix is worthwhile.
MIN_SHARED_TOKENS = 32
# Cells that must remain for each running sequence after an admission, or it would be preempted.
HEADROOM_TOKENS = 16
# The most guessed tokens of one step: each costs as much as a prompt token.
MAX_GUESSED_TOKENS = 24


@dataclass(frozen=True)
class Admission:
    """A sequence that got its slot in this step."""

    sequence: Sequence
    n_cached: int


class Scheduler:
    """The queue and the running set of one engine.

    Args:
        answer_wait_s: the longest wait of answers for the prompts of other requests.
        known: what steps cost before this load.
    """

    def __init__(
        self,
        limits: Limits,
        answer_wait_s: float = ANSWER_WAIT_S,
        known: MeasuredCosts | None = None,
    ) -> None:
        self.slots = Slots(limits)
        self._limits = limits
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self.costs = StepCosts(splits=limits.splits, known=known)
        self._prefill = Prefill(limits, self.slots, self.costs, answer_wait_s)
        self._ops: list[CacheOp] = []
        # Returns a slot with a prefix that no slot holds; None if that is not better.
        self.bring_back: Callable[[Sequence], Taken | None] = lambda sequence: None

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._running

    @property
    def waiting(self) -> list[Sequence]:
        return list(self._waiting)

    @property
    def running(self) -> list[Sequence]:
        return list(self._running)

    @property
    def n_outstanding(self) -> int:
        """The cells that the running sequences need in their next steps."""
        return sum(s.n_pending + HEADROOM_TOKENS for s in self._running)

    def add(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """The sequence has ended or was cancelled; unknown sequences are ignored."""
        if sequence in self._running:
            self._running.remove(sequence)
            self._release(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)

    def forget(self, sequence: Sequence) -> None:
        """The sequence failed: the contents of its slot are discarded."""
        if sequence in self._running and sequence.slot is not None:
            self._ops.extend(self.slots.drop(sequence.slot))
            sequence.slot, sequence.n_computed = None, 0
            self._running.remove(sequence)

    def schedule(self) -> tuple[Plan, list[Admission]]:
        """The plan of the next step, and the sequences that were admitted for it."""
        admissions = self._admit()
        self._preempt_for(max(len(self._decoding()), 1))
        decoding = self._decoding()
        items, answers_go_on = self._prefill.step(self._prefilling(), decoding)
        if answers_go_on:
            # A step with prompts is long already, so no guesses are made in it.
            guesses = [()] * len(decoding) if items else self._guesses(decoding)
            answers = zip(decoding, guesses, strict=True)
            items = [ScheduledTokens.of(s, 1, guess) for s, guess in answers] + items
        self._ops.extend(self.slots.make_room(sum(item.n_tokens for item in items)))
        ops, self._ops = self._ops, []
        return Plan(items, ops), admissions

    def pending_ops(self) -> list[CacheOp]:
        """The cache operations that remain when there is nothing to compute."""
        ops, self._ops = self._ops, []
        return ops

    def commit(self, items: list[ScheduledTokens], seconds: float) -> None:
        """Record that the items were computed in `seconds`."""
        for item in items:
            sequence = item.sequence
            computed = sequence.tokens[item.start : item.start + item.n_tokens]
            self.slots.extend(item.slot, computed)
            sequence.n_computed += item.n_tokens
        self.costs.learn(items, seconds)
        self._prefill.learn(items, seconds)

    def settle(self, item: ScheduledTokens, n_right: int) -> None:
        """Of a computed item's guessed tokens the first `n_right` were chosen; undo the others."""
        if n_right:
            self.slots.extend(item.slot, list(item.guess[:n_right]))
            item.sequence.n_computed += n_right
        if n_right < len(item.guess):
            self._ops.append(self.slots.restore(item.slot))
        if item.sequence.prompt_lookup is not None:
            item.sequence.prompt_lookup.learn(len(item.guess), n_right)

    def restore(self, items: list[ScheduledTokens]) -> list[CacheOp]:
        """The items were not computed: returns operations that undo their traces in the backend."""
        return [self.slots.restore(item.slot) for item in items]

    def preempt_newest(self) -> Sequence | None:
        """Return the newest running sequence to the queue; None if it is the only one."""
        if len(self._running) < 2:
            return None
        newest = self._running.pop()
        self._release(newest)
        newest.n_computed = 0
        self._waiting.appendleft(newest)
        return newest

    def _admit(self) -> list[Admission]:
        admissions: list[Admission] = []
        for sequence in list(self._waiting):
            if len(self._running) >= self._limits.n_parallel:
                break
            if self._shared_soon(sequence):
                continue
            if not self._fits(sequence):
                # In order: otherwise short sequences could overtake a long one that needs cells for
                # ever.
                break
            self._waiting.remove(sequence)
            taken = self.bring_back(sequence) or self.slots.take(
                sequence.tokens, sequence.salt, reuse=not sequence.n_unscored
            )
            self._ops.extend(taken.ops)
            sequence.slot, sequence.n_computed = taken.slot, taken.n_reused
            # What must go for this prompt goes before its first step: in a pool, attention also
            # looks at the cells of others, up to the last one that is used.
            self._ops.extend(self.slots.make_room(sequence.n_pending))
            self._running.append(sequence)
            admissions.append(Admission(sequence, taken.n_reused))
        return admissions

    def _shared_soon(self, sequence: Sequence) -> bool:
        """True if a running prefill is about to compute a prefix that this sequence can share."""
        if sequence.n_unscored or not self._limits.can_truncate:
            return False
        n_now = -1
        for other in self._running:
            if other.n_pending <= 1 or other.salt != sequence.salt:
                continue
            n_common = min(common_prefix(other.tokens, sequence.tokens), len(sequence.tokens) - 1)
            if n_common <= other.n_computed:
                continue
            if n_now < 0:
                n_now = self.slots.longest_prefix(sequence.tokens, sequence.salt)
            if n_common - n_now >= MIN_SHARED_TOKENS:
                return True
        return False

    def _fits(self, sequence: Sequence) -> bool:
        return self.slots.can_take(sequence.tokens, sequence.salt, self.n_outstanding)

    def _decoding(self) -> list[Sequence]:
        return [s for s in self._running if s.n_pending == 1]

    def _prefilling(self) -> list[Sequence]:
        return [s for s in self._running if s.n_pending > 1]

    def _guesses(self, decoding: list[Sequence]) -> list[tuple[int, ...]]:
        """A guess for each sequence, which may be empty; there are free cells for all guesses."""
        n_spare = min(self._limits.n_batch, self._limits.n_rows) - len(decoding)
        most = min(n_spare, MAX_GUESSED_TOKENS)
        # Nothing is evicted or preempted for tokens that may be wrong.
        left = min(most, self.slots.n_free_cells - len(decoding))
        guesses: list[tuple[int, ...]] = []
        for sequence in decoding:
            guess: tuple[int, ...] = ()
            if sequence.prompt_lookup is not None and self._limits.can_truncate and left > 0:
                room = sequence.limit - len(sequence.tokens) - 1
                guess = sequence.prompt_lookup.guess(
                    sequence.tokens, min(left, room), len(decoding), self.costs.answers
                )
            left -= len(guess)
            guesses.append(guess)
        return guesses

    def _preempt_for(self, n_tokens: int) -> None:
        while not self.slots.can_extend(n_tokens) and self.preempt_newest() is not None:
            n_tokens = max(len(self._decoding()), 1)

    def _release(self, sequence: Sequence) -> None:
        if sequence.slot is not None:
            self.slots.release(sequence.slot)
            sequence.slot = None
