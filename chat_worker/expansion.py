"""Memory needs of transformers models as a multiple of the files' size.

Users of the earlier server set these factors; they replace the computed estimate.
"""

from collections.abc import Sequence

import msgspec

from chat_worker.settings import ChatSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.lifecycle.load_options import LoadOption, LoadOptions
from worker_runtime.memory.need import Need


def with_expansion_factors(load_options: LoadOptions, settings: ChatSettings) -> LoadOptions:
    """`load_options` with the need by the factor for the weights' quantization, if one is set."""
    factor = settings.memory_factors.get(settings.quantization)
    if factor is None:
        return load_options

    def with_factors(entry: ModelEntry) -> Sequence[LoadOption]:
        return [_with_factor(option, factor) for option in load_options(entry)]

    return with_factors


def _with_factor(option: LoadOption, factor: float) -> LoadOption:
    if option.entry.backend != "transformers":
        return option
    need = Need(weights=int(option.entry.size_bytes * factor), spare=option.need.spare)
    return msgspec.structs.replace(option, need=need)
