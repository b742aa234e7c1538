"""Which tokens are in which KV slot: prefix reuse, sharing by forks, eviction. Only bookkeeping.

A slot keeps its tokens after its sequence has ended, so that the next turn of the conversation can
continue there. A cell holds the keys and values of one token. Forked slots share cells, and a cell
becomes free when the last slot drops it. If each slot has cells of its own, forks are copies. What
an idle slot loses to other sequences goes to the prefix cache (`KeepSlot`).
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from chat_worker.engine.runner import CacheOp, ForkSlot, KeepSlot, Limits, TruncateSlot

# A slot is continued in place if this loses at most so many of its tokens; else it is forked.
MAX_LOST_TOKENS = 32
# Computing fewer tokens than this is as fast as copying them.
MIN_COPIED_TOKENS = 12


class IntegrityError(Exception):
    """The bookkeeping is inconsistent, or differs from the backend's."""


@dataclass(eq=False, slots=True)
class Slot:
    id: int
    tokens: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    salt: str = ""
    busy: bool = False
    last_used: int = 0


@dataclass(frozen=True)
class Taken:
    """A slot that holds the first `n_reused` tokens as soon as `ops` are applied."""

    slot: int
    n_reused: int
    ops: list[CacheOp]


class Slots:
    """All slots of one KV cache."""

    def __init__(self, limits: Limits) -> None:
        self._slots = [Slot(i) for i in range(limits.n_slots)]
        self._n_references = array("H", bytes(2 * limits.n_cells))
        self._free_cells = list(range(limits.n_cells - 1, -1, -1))
        self._can_truncate = limits.can_truncate
        self._shares_cells = limits.shares_cells
        self._n_ctx = limits.n_ctx
        self._clock = 0

    @property
    def n_free_cells(self) -> int:
        return len(self._free_cells)

    def n_available_cells(self) -> int:
        """The number of free cells and of cells that only idle slots hold."""
        held: set[int] = set()
        for slot in self._slots:
            if slot.busy:
                held.update(slot.cells)
        return len(self._n_references) - len(held)

    def longest_prefix(self, tokens: list[int], salt: str) -> int:
        """The number of leading tokens that `take` would find in the cache."""
        return self._best(tokens, salt)[1]

    def can_take(self, tokens: list[int], salt: str, headroom: int) -> bool:
        """True if a slot is idle and there are cells for the rest of `tokens` plus `headroom`."""
        if all(slot.busy for slot in self._slots):
            return False
        if not self._shares_cells or len(tokens) + headroom <= self.n_free_cells:
            return True
        source, n_reused = self._best(tokens, salt)
        available = self.n_available_cells()
        if source is not None and not source.busy:
            # Cells that are reused cannot be evicted.
            return len(tokens) + headroom <= available
        return len(tokens) - n_reused + headroom <= available

    def take(self, tokens: list[int], salt: str, *, reuse: bool = True) -> Taken:
        """Give an idle slot to a sequence, with as much of `tokens` as the cache holds.

        At least the last token is computed again, because its logits are needed.
        """
        source, n_reused = self._best(tokens, salt) if reuse else (None, 0)
        place = self._place_in_pool if self._shares_cells else self._place_of_its_own
        slot, n_reused, ops = place(source, n_reused)
        slot.busy, slot.salt = True, salt
        self._touch(slot)
        return Taken(slot.id, n_reused, ops)

    def idle(self) -> list[Slot]:
        """Idle slots that hold a prefix, the most recently used first."""
        kept = [slot for slot in self._slots if slot.tokens and not slot.busy]
        return sorted(kept, key=lambda slot: -slot.last_used)

    def can_restore(self, n_prefix: int, n_tokens: int, headroom: int) -> bool:
        """True if a sequence of `n_tokens`, which can be taken, may begin with a prefix of
        `n_prefix` tokens from elsewhere, although it shares no cells then."""
        if not self._shares_cells:
            return n_prefix <= self._n_ctx
        return max(n_prefix, n_tokens + headroom) <= self.n_available_cells()

    def can_extend(self, n_tokens: int) -> bool:
        return n_tokens <= self.n_free_cells or n_tokens <= self.n_available_cells()

    def make_room(self, n_tokens: int) -> list[CacheOp]:
        """Evict idle slots, least recently used first, until `n_tokens` cells are free."""
        ops: list[CacheOp] = []
        idle = sorted((s for s in self._slots if not s.busy), key=lambda s: s.last_used)
        for slot in idle:
            if self.n_free_cells >= n_tokens:
                break
            ops.extend(self._evict(slot))
        return ops

    def extend(self, slot_id: int, tokens: list[int]) -> None:
        """Record tokens that were computed into a slot; call `make_room` for their cells before."""
        slot = self._slots[slot_id]
        for token in tokens:
            cell = self._free_cells.pop()
            self._n_references[cell] = 1
            slot.cells.append(cell)
            slot.tokens.append(token)
        self._touch(slot)

    def release(self, slot_id: int) -> None:
        """The sequence has ended; its tokens stay until their cells are needed."""
        slot = self._slots[slot_id]
        slot.busy = False
        self._touch(slot)

    def drop(self, slot_id: int) -> list[CacheOp]:
        """Release a slot and discard its tokens."""
        slot = self._slots[slot_id]
        slot.busy = False
        return self._truncate(slot, 0) or [TruncateSlot(slot_id, 0)]

    def restore(self, slot_id: int) -> CacheOp:
        """The operation that restores the backend's slot to the state recorded here."""
        return TruncateSlot(slot_id, len(self._slots[slot_id].tokens))

    def check_integrity(self, length: Callable[[int], int]) -> None:
        """Check that the bookkeeping is consistent and agrees with the backend's lengths.

        Raises:
            IntegrityError: it does not.
        """
        counts = array("H", bytes(2 * len(self._n_references)))
        for slot in self._slots:
            if len(slot.cells) != len(slot.tokens):
                raise IntegrityError(f"slot {slot.id}: cells and tokens differ")
            if slot.busy:
                raise IntegrityError(f"slot {slot.id} is busy while nothing runs")
            if (real := length(slot.id)) != len(slot.tokens):
                raise IntegrityError(f"slot {slot.id}: {len(slot.tokens)} tokens, really {real}")
            for cell in slot.cells:
                counts[cell] += 1
        if counts != self._n_references:
            raise IntegrityError("cells are not referenced as often as counted")
        if len(self._free_cells) != counts.count(0):
            raise IntegrityError("free cells are miscounted")

    def _best(self, tokens: list[int], salt: str) -> tuple[Slot | None, int]:
        """The slot with the longest usable prefix of `tokens`.

        Of equal slots, an idle one is preferred, which is continued in place; if a copy costs the
        same, a busy one is, so that the idle slot keeps its tokens.
        """
        best, best_rank = None, (0, True)
        for slot in self._slots:
            if slot.salt != salt or not slot.tokens:
                continue
            n_common = common_prefix(slot.tokens, tokens)
            n_usable = min(n_common, len(tokens) - 1)
            if not self._can_truncate and (slot.busy or n_usable < len(slot.tokens)):
                continue
            rank = (n_usable, slot.busy is not self._shares_cells)
            if rank > best_rank:
                best, best_rank = slot, rank
        return best, best_rank[0]

    def _place_in_pool(self, source: Slot | None, n_reused: int) -> tuple[Slot, int, list[CacheOp]]:
        if source is None:
            slot = self._victim()
            return slot, 0, self._evict(slot)
        if self._continues(source, n_reused):
            return source, n_reused, self._evict(source, n_reused)
        slot = self._victim(source)
        ops = self._evict(slot)
        return slot, n_reused, [*ops, self._fork(source, slot, n_reused)]

    def _place_of_its_own(
        self, source: Slot | None, n_reused: int
    ) -> tuple[Slot, int, list[CacheOp]]:
        """The slot in which the sequence computes fastest; its old tokens move to another slot."""
        goes_on = source if source is not None and self._continues(source, n_reused) else None
        idle = [slot for slot in self._slots if not slot.busy]
        slot = min(
            idle,
            key=lambda s: (self._scatter(s), s is not goes_on, bool(s.tokens), s.last_used),
        )
        n_kept = n_reused if slot is source else 0
        ops = self._move(slot, source) if len(slot.tokens) - n_kept > MAX_LOST_TOKENS else []
        ops += self._truncate(slot, n_kept) if ops else self._evict(slot, n_kept)
        if slot is source:
            return slot, n_reused, ops
        if source is None or n_reused < MIN_COPIED_TOKENS:
            return slot, 0, ops
        if source is goes_on:
            source.last_used = 0  # it holds the same conversation, a turn earlier
        return slot, n_reused, [*ops, self._fork(source, slot, n_reused)]

    def _move(self, slot: Slot, source: Slot | None) -> list[CacheOp]:
        """Move an idle slot's tokens to an empty slot, or to one that was used less recently."""
        others = [s for s in self._slots if not s.busy and s is not slot and s is not source]
        spare = min(others, key=lambda s: (bool(s.tokens), s.last_used), default=None)
        if spare is None or (spare.tokens and spare.last_used > slot.last_used):
            return []
        ops = self._evict(spare)
        spare.salt, spare.last_used = slot.salt, slot.last_used
        return [*ops, self._fork(slot, spare, len(slot.tokens))]

    def _continues(self, slot: Slot, n_reused: int) -> bool:
        if slot.busy:
            return False
        if len(slot.tokens) - n_reused <= MAX_LOST_TOKENS or not self._can_truncate:
            return True
        return not any(not s.busy and s is not slot for s in self._slots)

    def _victim(self, spared: Slot | None = None) -> Slot:
        """An empty idle slot, else the least recently used idle slot."""
        idle = [s for s in self._slots if not s.busy and s is not spared]
        return min(idle, key=lambda s: (bool(s.tokens), s.last_used))

    def _scatter(self, taken: Slot) -> tuple[int, bool]:
        """The number of groups of neighbouring slots in which the busy slots and this one would
        compute, and whether this one extends their range."""
        busy = {slot.id for slot in self._slots if slot.busy}
        widens = not busy or not min(busy) < taken.id < max(busy)
        together = busy | {taken.id}
        return sum(1 for slot_id in together if slot_id - 1 not in together), widens

    def _evict(self, slot: Slot, length: int = 0) -> list[CacheOp]:
        """Truncate a slot for another sequence; what would be lost is kept elsewhere."""
        is_lost = len(slot.tokens) - length > MAX_LOST_TOKENS and not any(
            other.salt == slot.salt and other.tokens[: len(slot.tokens)] == slot.tokens
            for other in self._slots
            if other is not slot
        )
        kept: list[CacheOp] = [KeepSlot(slot.id, list(slot.tokens), slot.salt)] if is_lost else []
        return [*kept, *self._truncate(slot, length)]

    def _truncate(self, slot: Slot, length: int) -> list[CacheOp]:
        if len(slot.tokens) <= length:
            return []
        for cell in slot.cells[length:]:
            self._n_references[cell] -= 1
            if not self._n_references[cell]:
                self._free_cells.append(cell)
        del slot.cells[length:], slot.tokens[length:]
        return [TruncateSlot(slot.id, length)]

    def _fork(self, source: Slot, target: Slot, length: int) -> ForkSlot:
        target.tokens = source.tokens[:length]
        if self._shares_cells:
            target.cells = source.cells[:length]
        else:
            target.cells = [self._free_cells.pop() for _ in range(length)]
        for cell in target.cells:
            self._n_references[cell] += 1
        return ForkSlot(source.id, target.id, length)

    def _touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.last_used = self._clock


def common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix. Slices are compared in C, so long slices are cheap."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
