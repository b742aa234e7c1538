"""The seam to a backend: what to compute in one step, and the Protocol that computes it."""

from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from typing import Protocol, Self

from chat_worker.engine.sampling import LogitsRow
from chat_worker.engine.sequence import Sequence

ALIKE = 0.9


@dataclass(frozen=True)
class TruncateSlot:
    """Keep only the first `length` tokens of a slot."""

    slot: int
    length: int


@dataclass(frozen=True)
class ForkSlot:
    """Let empty slot `target` share the first `length` tokens of slot `source`."""

    source: int
    target: int
    length: int


CacheOp = TruncateSlot | ForkSlot


@dataclass(frozen=True)
class ScheduledTokens:
    """Compute tokens `start` to `start + n_tokens` of a sequence, and those guessed to follow.

    `n_rows` logits rows are wanted, of the last positions of all of them.
    """

    sequence: Sequence
    slot: int
    start: int
    n_tokens: int
    n_rows: int
    guess: tuple[int, ...] = ()

    @classmethod
    def of(cls, sequence: Sequence, n_tokens: int, guess: tuple[int, ...] = ()) -> Self:
        """The next `n_tokens` of a running sequence, with the rows that it needs of them."""
        assert sequence.slot is not None, "a running sequence has a slot"
        start = sequence.n_computed
        completes = start + n_tokens == len(sequence.tokens)
        n_rows = n_tokens if sequence.n_unscored else int(completes)
        return cls(sequence, sequence.slot, start, n_tokens, n_rows + len(guess), guess)

    @property
    def tokens(self) -> list[int]:
        """What to compute."""
        return [*self.sequence.tokens[self.start : self.start + self.n_tokens], *self.guess]

    def without_guess(self) -> "ScheduledTokens":
        return ScheduledTokens(
            self.sequence, self.slot, self.start, self.n_tokens, self.n_rows - len(self.guess)
        )

    @property
    def size(self) -> int:
        """How many tokens that is."""
        return self.n_tokens + len(self.guess)

    @property
    def completes(self) -> bool:
        """True if after it the sequence's next token can be sampled."""
        return self.start + self.n_tokens == len(self.sequence.tokens)


@dataclass(frozen=True)
class Plan:
    """One step: cache operations in order, then one batch."""

    items: list[ScheduledTokens] = field(default_factory=list)
    ops: list[CacheOp] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    """What a backend can hold; all in tokens but for the counts.

    Args:
        n_parallel: sequences decoded together.
        n_slots: KV sequences, in use or kept for their prefix.
        n_cells: tokens of all slots, shared ones counted once.
        n_ctx: tokens of one sequence.
        n_batch: tokens of one step.
        n_rows: logits rows of one step.
        can_truncate: False if a cached state can only be continued or dropped (recurrent
            models); then nothing is forked either.
        shares_cells: True if all slots take cells from one pool. False: each has `n_ctx` of its
            own, a fork copies them, and sequences in neighbouring slots compute faster.
        n_together: prompts that are `alike` cost less when computed together, as long as they are
            at most so many tokens; 0: they do not.
    """

    n_parallel: int
    n_slots: int
    n_cells: int
    n_ctx: int
    n_batch: int
    n_rows: int
    n_vocab: int
    can_truncate: bool = True
    shares_cells: bool = True
    n_together: int = 0


def alike(n_tokens: int, n_others: int) -> bool:
    """True if prompts are so near in length that to pad one costs less than it saves."""
    return min(n_tokens, n_others) >= ALIKE * max(n_tokens, n_others)


class RunFailed(Exception):
    """The backend could not compute the batch; nothing of it counts."""


class ModelRunner(Protocol):
    """Computes batches. Called from one thread only."""

    @property
    def limits(self) -> Limits: ...

    def apply(self, op: CacheOp) -> None:
        """Change the KV cache.

        Raises:
            RuntimeError: the backend broke; the engine ends.
        """

    def run(self, items: list[ScheduledTokens]) -> Rows[LogitsRow]:
        """Compute the items in one batch.

        Returns:
            The wanted logits rows in the order of the items, each (n_vocab,) float32; they may
            be overwritten, and are valid until the next call.
        Raises:
            RunFailed: nothing of the batch counts; slots may hold some of it until
                they are truncated.
        """

    def length(self, slot: int) -> int:
        """Tokens the slot really holds."""

    def shed(self) -> None:
        """Give back what the cache takes; no slot holds anything. The next `run` takes it again."""

    def close(self) -> None:
        """Free native memory."""
