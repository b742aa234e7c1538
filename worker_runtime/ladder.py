"""Ways to load a model, the best first; each rung down takes less memory and gives something up."""

from collections.abc import Callable, Sequence

import msgspec

from worker_runtime.catalog import ModelEntry
from worker_runtime.memory.need import Need, estimate
from worker_runtime.memory.probe import ProcessMemory


class Rung(msgspec.Struct, frozen=True):
    """One way: what is loaded, what that takes, and what it gives up ("context of 1,024 …")."""

    entry: ModelEntry
    need: Need
    reductions: tuple[str, ...] = ()


Ladder = Callable[[ModelEntry], Sequence[Rung]]
# Told what the process of a rung holds, after its load and before its end.
OnMeasured = Callable[[Rung, ProcessMemory], None]


def as_it_is(entry: ModelEntry) -> Sequence[Rung]:
    """The ladder of a model that can give nothing up."""
    return (Rung(entry, estimate(entry)),)


def not_measured(rung: Rung, held: ProcessMemory) -> None:
    """For whoever learns nothing."""
