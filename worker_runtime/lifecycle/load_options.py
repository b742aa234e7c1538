"""Ways to load a model, the best first; each takes less memory and gives something up."""

from collections.abc import Callable, Sequence

import msgspec

from worker_runtime.catalog import ModelEntry
from worker_runtime.memory.need import Need, estimate
from worker_runtime.memory.probe import ProcessMemory


class LoadOption(msgspec.Struct, frozen=True):
    """One way: what is loaded, what that takes, and what it gives up ("context of 1,024 …")."""

    entry: ModelEntry
    need: Need
    reductions: tuple[str, ...] = ()


LoadOptions = Callable[[ModelEntry], Sequence[LoadOption]]
# Told what the process of an option holds, after its load and before its end.
OnMeasured = Callable[[LoadOption, ProcessMemory], None]


def single_option(entry: ModelEntry) -> Sequence[LoadOption]:
    """The options of a model that can give nothing up: there is one."""
    return (LoadOption(entry, estimate(entry)),)


def ignore_measurement(option: LoadOption, held: ProcessMemory) -> None:
    """For whoever learns nothing."""
