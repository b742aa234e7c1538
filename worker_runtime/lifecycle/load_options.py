"""Load options: ways to load a model, the preferred one first, each smaller than the one before."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from common.error_texts import ErrorText
from common.errors import UnsupportedParameter
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
    """One way to load a model: what is loaded, the memory it takes, and what it gives up.

    Args:
        plain_spec: the entry's load specification without llama.cpp's extra CPU buffers; None if
            this option does not use them.
    """

    entry: ModelEntry
    need: Need
    reductions: tuple[str, ...] = ()
    plain_spec: msgspec.Raw | None = None

    def without_extra_buffers(self) -> "LoadOption":
        """The same option with the weights in the file's order: slower, but it runs plain code."""
        if self.plain_spec is None:
            return self
        return replace(
            self,
            entry=replace(self.entry, load_spec=self.plain_spec),
            reductions=(*self.reductions, WITHOUT_EXTRA_BUFFERS),
            plain_spec=None,
        )


LoadOptions = Callable[[ModelEntry], Sequence[LoadOption]]
# The same as a coroutine, for callers that must not block.
AsyncLoadOptions = Callable[[ModelEntry], Coroutine[Any, Any, Sequence[LoadOption]]]
# Returns a model with another context for each request, in tokens.
WithContext = Callable[[ModelEntry, int], ModelEntry]
# Receives what an option's process holds in memory, after its load and before its end.
OnMeasured = Callable[[LoadOption, ProcessMemory], None]


def single_option(entry: ModelEntry) -> Sequence[LoadOption]:
    """The only load option of a model that cannot give anything up."""
    return (LoadOption(entry, estimate(entry)),)


def refuse_context(entry: ModelEntry, n_ctx: int) -> ModelEntry:
    """
    Raises:
        UnsupportedParameter: always, for models whose context is not chosen here.
    """
    raise UnsupportedParameter(
        ErrorText("context_not_ours", model=entry.id), param="context_length"
    )


def ignore_measurement(option: LoadOption, held: ProcessMemory) -> None:
    """Discard a measurement, where no calibration is kept."""


def async_load_options(load_options: LoadOptions, off_loop: OffLoop) -> AsyncLoadOptions:
    """Return `load_options`, which reads files, as a coroutine that does not block the event loop.

    Raises (when it is awaited):
        BackendLoadFailed: a file was removed or damaged since the models were listed.
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
