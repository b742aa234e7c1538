"""Needs of transformers models as the earlier server's users told them: a multiple of the files'
size, in place of what is computed."""

from collections.abc import Sequence

import msgspec

from chat_worker.settings import ChatSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.lifecycle.load_options import LoadOption, LoadOptions
from worker_runtime.memory.need import Need


def with_expansion_factors(load_options: LoadOptions, settings: ChatSettings) -> LoadOptions:
    """`load_options`, with needs by the factor of the weights' quantization where there is one."""
    factor = settings.memory_factors.get(settings.quantization)
    if factor is None:
        return load_options

    def with_factors(entry: ModelEntry) -> Sequence[LoadOption]:
        return [_with_factor(option, factor) for option in load_options(entry)]

    return with_factors


def _with_factor(option: LoadOption, factor: float) -> LoadOption:
    if option.entry.backend != "transformers":
        return option
    return msgspec.structs.replace(option, need=Need(weights=int(option.entry.size_bytes * factor)))
