"""Ways to load a model, the best first; each takes less memory and gives something up."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process.load_errors import load_failed
from worker_runtime.memory.need import Need, estimate
from worker_runtime.memory.probe import ProcessMemory
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import reason_of
from worker_runtime.model_files.odd_paths import printable
from worker_runtime.off_loop import OffLoop

WITHOUT_EXTRA_BUFFERS = "without llama.cpp's extra CPU buffers, which fail on this processor"


class LoadOption(msgspec.Struct, frozen=True):
    """One way: what is loaded, what that takes, and what it gives up ("context of 1,024 …").

    Args:
        plain_spec: the entry's, for a load without llama.cpp's extra CPU buffers; None: it has
            none to do without.
    """

    entry: ModelEntry
    need: Need
    reductions: tuple[str, ...] = ()
    plain_spec: msgspec.Raw | None = None

    def without_extra_buffers(self) -> "LoadOption":
        """The same with all weights as they lie in the file: slower, and of plain code."""
        if self.plain_spec is None:
            return self
        return replace(
            self,
            entry=replace(self.entry, load_spec=self.plain_spec),
            reductions=(*self.reductions, WITHOUT_EXTRA_BUFFERS),
            plain_spec=None,
        )


LoadOptions = Callable[[ModelEntry], Sequence[LoadOption]]
# The same, for whoever must not block.
Ways = Callable[[ModelEntry], Coroutine[Any, Any, Sequence[LoadOption]]]
# Told what the process of an option holds, after its load and before its end.
OnMeasured = Callable[[LoadOption, ProcessMemory], None]


def single_option(entry: ModelEntry) -> Sequence[LoadOption]:
    """The options of a model that can give nothing up: there is one."""
    return (LoadOption(entry, estimate(entry)),)


def ignore_measurement(option: LoadOption, held: ProcessMemory) -> None:
    """For whoever learns nothing."""


def ways(load_options: LoadOptions, off_loop: OffLoop) -> Ways:
    """`load_options`, which reads files, off the event loop.

    Raises (when it is used):
        BackendLoadFailed: a file went, or was damaged, since the models were listed.
    """

    async def options(entry: ModelEntry) -> Sequence[LoadOption]:
        try:
            return await off_loop(lambda: load_options(entry))
        except InvalidModelFile as error:
            reason = str(error)
        except OSError as error:
            reason = reason_of(error)
        raise load_failed(entry.backend, printable(reason))

    return options
