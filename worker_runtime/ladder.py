"""Ways to load a model, the best first; each rung down takes less memory and gives something up."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from worker_runtime.catalog import ModelEntry
from worker_runtime.foreign_files import reason_of
from worker_runtime.invalid_file import InvalidModelFile
from worker_runtime.load_failures import load_failed
from worker_runtime.memory.estimate import estimate
from worker_runtime.memory.need import Need
from worker_runtime.memory.process_memory import ProcessMemory
from worker_runtime.odd_paths import printable
from worker_runtime.off_loop import OffLoop

WITHOUT_EXTRA_BUFFERS = "without llama.cpp's extra CPU buffers, which fail on this processor"


class Rung(msgspec.Struct, frozen=True):
    """One way: what is loaded, what that takes, and what it gives up ("context of 1,024 …").

    Args:
        plain_spec: the entry's, for a load without llama.cpp's extra CPU buffers; None: it has
            none to do without.
    """

    entry: ModelEntry
    need: Need
    reductions: tuple[str, ...] = ()
    plain_spec: msgspec.Raw | None = None

    def without_extra_buffers(self) -> "Rung":
        """The same with all weights as they lie in the file: slower, and of plain code."""
        if self.plain_spec is None:
            return self
        return replace(
            self,
            entry=replace(self.entry, load_spec=self.plain_spec),
            reductions=(*self.reductions, WITHOUT_EXTRA_BUFFERS),
            plain_spec=None,
        )


Ladder = Callable[[ModelEntry], Sequence[Rung]]
# The same, for whoever must not block.
Ways = Callable[[ModelEntry], Coroutine[Any, Any, Sequence[Rung]]]
# Told what the process of a rung holds, after its load and before its end.
OnMeasured = Callable[[Rung, ProcessMemory], None]


def as_it_is(entry: ModelEntry) -> Sequence[Rung]:
    """The ladder of a model that can give nothing up."""
    return (Rung(entry, estimate(entry)),)


def not_measured(rung: Rung, held: ProcessMemory) -> None:
    """For whoever learns nothing."""


def ways(ladder: Ladder, off_loop: OffLoop) -> Ways:
    """`ladder`, which reads files, off the event loop.

    Raises (when it is used):
        BackendLoadFailed: a file went, or was damaged, since the models were listed.
    """

    async def rungs(entry: ModelEntry) -> Sequence[Rung]:
        try:
            return await off_loop(lambda: ladder(entry))
        except InvalidModelFile as error:
            reason = str(error)
        except OSError as error:
            reason = reason_of(error)
        raise load_failed(entry.backend, printable(reason))

    return rungs
