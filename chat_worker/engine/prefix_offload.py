"""Loads a sequence's prefix from disk before it is queued, and saves slots before they are lost.

Runs on the engine's thread, between steps. Does nothing if there is no disk cache.
"""

from collections.abc import Iterable

from chat_worker.engine.disk_prefix_cache import MIN_TOKENS, DiskPrefixCache
from chat_worker.engine.runner import CacheOp, ModelRunner
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.sequence import Sequence


def load_prefix(
    disk_cache: DiskPrefixCache | None,
    scheduler: Scheduler,
    runner: ModelRunner,
    sequence: Sequence,
) -> None:
    """Fill an idle slot if the disk holds more of the sequence's prefix than the cache."""
    if disk_cache is None or sequence.n_unscored:
        return
    slots, tokens = scheduler.slots, sequence.tokens
    whole = not runner.limits.can_truncate
    found, n_found = disk_cache.longest(tokens, sequence.salt, whole=whole)
    if found is None or n_found < slots.longest_prefix(tokens, sequence.salt) + MIN_TOKENS:
        return
    _apply(scheduler.pending_ops(), runner)
    adopted = slots.adopt(found.tokens, sequence.salt)
    if adopted is None:
        return
    slot, ops = adopted
    _apply(ops, runner)
    if not disk_cache.load(found, slot):
        _apply(slots.drop(slot), runner)


def save_prefixes(
    disk_cache: DiskPrefixCache | None, scheduler: Scheduler, runner: ModelRunner
) -> None:
    """Save the idle slots to disk, the most recently used first."""
    if disk_cache is None:
        return
    _apply(scheduler.pending_ops(), runner)
    disk_cache.save((slot.id, slot.tokens, slot.salt) for slot in scheduler.slots.idle())


def shed_slots(
    disk_cache: DiskPrefixCache | None, scheduler: Scheduler, runner: ModelRunner
) -> None:
    """Free the memory of all slots while nothing runs, after saving them to disk."""
    save_prefixes(disk_cache, scheduler, runner)
    for slot in scheduler.slots.idle():
        _apply(scheduler.slots.drop(slot.id), runner)
    runner.shed()


def _apply(ops: Iterable[CacheOp], runner: ModelRunner) -> None:
    for op in ops:
        runner.apply(op)
