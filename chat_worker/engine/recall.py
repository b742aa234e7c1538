"""Brings a sequence's prefix back from disk before it is queued; saves slots before they go.

Runs on the engine's thread, between steps. Without kept prefixes nothing is brought back or saved.
"""

from collections.abc import Iterable

from chat_worker.engine.kept import MIN_TOKENS, KeptPrefixes
from chat_worker.engine.runner import CacheOp, Runner
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.sequence import Sequence


def recall(
    kept: KeptPrefixes | None, scheduler: Scheduler, runner: Runner, sequence: Sequence
) -> None:
    """Fill an idle slot if the disk holds more of the sequence's prefix than the cache."""
    if kept is None or sequence.n_unscored:
        return
    slots, tokens = scheduler.slots, sequence.tokens
    whole = not runner.limits.can_truncate
    found, n_found = kept.longest(tokens, sequence.salt, whole=whole)
    if found is None or n_found < slots.longest_prefix(tokens, sequence.salt) + MIN_TOKENS:
        return
    _apply(scheduler.pending_ops(), runner)
    adopted = slots.adopt(found.tokens, sequence.salt)
    if adopted is None:
        return
    slot, ops = adopted
    _apply(ops, runner)
    if not kept.load(found, slot):
        _apply(slots.drop(slot), runner)


def keep(kept: KeptPrefixes | None, scheduler: Scheduler, runner: Runner) -> None:
    """Save the idle slots, the most recently used first."""
    if kept is None:
        return
    _apply(scheduler.pending_ops(), runner)
    kept.save((slot.id, slot.tokens, slot.salt) for slot in scheduler.slots.idle())


def shed(kept: KeptPrefixes | None, scheduler: Scheduler, runner: Runner) -> None:
    """Give the memory of all slots back, while nothing runs; what they hold goes to disk first."""
    keep(kept, scheduler, runner)
    for slot in scheduler.slots.idle():
        _apply(scheduler.slots.drop(slot.id), runner)
    runner.shed()


def _apply(ops: Iterable[CacheOp], runner: Runner) -> None:
    for op in ops:
        runner.apply(op)
