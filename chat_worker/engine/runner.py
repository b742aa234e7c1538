"""The interface to a backend: what to compute in one step, and the Protocol that computes it."""

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
    """Let the empty slot `target` share the first `length` tokens of slot `source`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True)
class KeepSlot:
    """The slot is about to lose these tokens: keep what it holds of them in the prefix cache."""

    slot: int
    tokens: list[int]
    salt: str


CacheOp = TruncateSlot | ForkSlot | KeepSlot


@dataclass(frozen=True)
class ScheduledTokens:
    """Compute tokens `start` to `start + n_tokens` of a sequence, and those guessed to follow.

    The backend returns `n_rows` rows of logits, for the last positions of all these tokens.
    """

    sequence: Sequence
    slot: int
    start: int
    n_tokens: int
    n_rows: int
    guess: tuple[int, ...] = ()

    @classmethod
    def of(cls, sequence: Sequence, n_tokens: int, guess: tuple[int, ...] = ()) -> Self:
        """The next `n_tokens` of a running sequence, with the rows that are needed for them."""
        assert sequence.slot is not None, "a running sequence has a slot"
        start = sequence.n_computed
        completes = start + n_tokens == len(sequence.tokens)
        n_rows = n_tokens if sequence.n_unscored else int(completes)
        return cls(sequence, sequence.slot, start, n_tokens, n_rows + len(guess), guess)

    @property
    def tokens(self) -> list[int]:
        """The tokens to compute."""
        return [*self.sequence.tokens[self.start : self.start + self.n_tokens], *self.guess]

    def without_guess(self) -> "ScheduledTokens":
        return ScheduledTokens(
            self.sequence, self.slot, self.start, self.n_tokens, self.n_rows - len(self.guess)
        )

    @property
    def size(self) -> int:
        """The number of tokens to compute."""
        return self.n_tokens + len(self.guess)

    @property
    def completes(self) -> bool:
        """True if the sequence's next token can be sampled afterwards."""
        return self.start + self.n_tokens == len(self.sequence.tokens)


@dataclass(frozen=True)
class Plan:
    """One step: cache operations in order, then one batch."""

    items: list[ScheduledTokens] = field(default_factory=list)
    ops: list[CacheOp] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    """What a backend can hold, in tokens except for counts.

    Args:
        n_parallel: sequences decoded together.
        n_slots: KV sequences, in use or cached for their prefix.
        n_cells: tokens of all slots; shared tokens count once.
        n_ctx: tokens of one sequence.
        n_batch: tokens of one step.
        n_rows: logits rows of one step.
        can_truncate: False if a cached state can only be continued or dropped (recurrent
            models); then slots cannot be forked either.
        shares_cells: True if all slots take cells from one pool. False if each slot has `n_ctx`
            cells of its own; then a fork copies them, and sequences in neighbouring slots are
            faster.
        splits: True if the backend computes the prompts and the answers of a step one after the
            other, so that together they cost as much as apart.
        n_together: the longest prompts, in tokens, that cost less when computed together with
            prompts that are `alike`; 0: none do.
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
    splits: bool = False
    n_together: int = 0


def alike(n_tokens: int, n_others: int) -> bool:
    """True if two prompts are so close in length that padding one costs less than it saves."""
    return min(n_tokens, n_others) >= ALIKE * max(n_tokens, n_others)


class RunFailed(Exception):
    """The backend could not compute the batch; none of its results are valid."""


class ModelRunner(Protocol):
    """Computes batches. Called from one thread only."""

    @property
    def limits(self) -> Limits: ...

    def apply(self, op: CacheOp) -> None:
        """Change the KV cache; `KeepSlot` changes nothing.

        Raises:
            RuntimeError: the backend is broken; the engine must end.
        """

    def run(self, items: list[ScheduledTokens]) -> Rows[LogitsRow]:
        """Compute the items in one batch.

        Returns:
            The wanted rows of logits in the order of the items, each (n_vocab,) float32; they may
            be overwritten, and are valid until the next call.
        Raises:
            RunFailed: no result of the batch is valid; slots may hold some of its tokens until
                they are truncated.
        """

    def length(self, slot: int) -> int:
        """The number of tokens that the slot holds in the backend."""

    def shed(self) -> None:
        """Free the cache's memory while no slot holds tokens; the next `run` allocates it again."""

    def close(self) -> None:
        """Free native memory."""


class SlotStates(Protocol):
    """A backend that copies what a slot holds to memory and back. Called on the engine's thread.

    Both raise RuntimeError if the backend is broken; the engine must end.
    """

    def size(self, slot: int, n_tokens: int) -> int:
        """The bytes of the slot's state."""

    def save(self, slot: int, n_tokens: int) -> memoryview | None:
        """The state of the slot, which holds `n_tokens`, as bytes; None if that failed."""

    def restore(self, state: memoryview, slot: int) -> bool:
        """Fill an empty slot; False if the backend refuses the state: then truncate the slot."""
