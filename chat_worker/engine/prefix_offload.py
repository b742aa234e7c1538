"""Moves prefixes between the slots and the prefix cache. Runs on the engine's thread."""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Rows

from chat_worker.engine.prefix_cache import PrefixCache
from chat_worker.engine.runner import (
    CacheOp,
    KeepSlot,
    Limits,
    ModelRunner,
    ScheduledTokens,
    TruncateSlot,
)
from chat_worker.engine.sampling import LogitsRow
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.sequence import Sequence
from chat_worker.engine.slots import MAX_LOST_TOKENS, Taken


class KeepingRunner:
    """Implements `ModelRunner` with another runner, and keeps what its slots are about to lose."""

    def __init__(self, runner: ModelRunner, cache: PrefixCache) -> None:
        self._runner = runner
        self._cache = cache

    @property
    def limits(self) -> Limits:
        return self._runner.limits

    def apply(self, op: CacheOp) -> None:
        if isinstance(op, KeepSlot):
            self._cache.keep(op)
        else:
            self._runner.apply(op)

    def run(self, items: list[ScheduledTokens]) -> Rows[LogitsRow]:
        return self._runner.run(items)

    def length(self, slot: int) -> int:
        return self._runner.length(slot)

    def shed(self) -> None:
        self._runner.shed()

    def close(self) -> None:
        self._runner.close()


class PrefixOffload:
    """Moves prefixes for one loop.

    Args:
        runner: keeps what slots lose.
    """

    def __init__(self, cache: PrefixCache, scheduler: Scheduler, runner: KeepingRunner) -> None:
        self._cache = cache
        self._scheduler = scheduler
        self._runner = runner

    def bring_back(self, sequence: Sequence) -> Taken | None:
        """A slot with a prefix of the sequence out of the cache; None if no slot is better off with
        one than with what the slots hold."""
        slots, tokens, salt = self._scheduler.slots, sequence.tokens, sequence.salt
        if sequence.n_unscored:
            return None
        found = self._cache.longest(tokens, salt, slots.longest_prefix(tokens, salt))
        if found is None:
            return None
        # For a moment the slot holds the whole prefix.
        n_prefix = len(found.prefix.tokens)
        if not slots.can_restore(n_prefix, len(tokens), self._scheduler.n_outstanding):
            return None
        taken = slots.take(tokens, salt, reuse=False)
        self._apply([*self._scheduler.pending_ops(), *taken.ops, *slots.make_room(n_prefix)])
        n_usable = found.n_usable if self._cache.restore(found, taken.slot) else 0
        if n_usable < n_prefix:
            self._runner.apply(TruncateSlot(taken.slot, n_usable))
        slots.extend(taken.slot, tokens[:n_usable])
        return Taken(taken.slot, n_usable, [])

    def put_away(self, may_go_on: Callable[[], bool]) -> bool:
        """Write the idle slots and the cache's memory to disk; False if there was no time for all
        of them."""
        self._apply(self._scheduler.pending_ops())
        idle = self._scheduler.slots.idle()
        lost = (s for s in idle if len(s.tokens) > MAX_LOST_TOKENS)
        ops = (KeepSlot(s.id, list(s.tokens), s.salt) for s in lost)
        return self._cache.put_away(ops, may_go_on)

    def shed(self, may_go_on: Callable[[], bool]) -> bool:
        """Free the memory of all slots and of the cache while nothing runs. Returns False, and
        frees nothing, if there was no time to write all of it to disk."""
        if not self.put_away(may_go_on):
            return False
        self._cache.clear()
        for slot in self._scheduler.slots.idle():
            self._apply(self._scheduler.slots.drop(slot.id))
        self._runner.shed()
        return True

    def _apply(self, ops: Iterable[CacheOp]) -> None:
        for op in ops:
            self._runner.apply(op)
