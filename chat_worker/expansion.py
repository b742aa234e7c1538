"""Needs of transformers models as the earlier server's users told them: a multiple of the files'
size, in place of what is computed."""

from collections.abc import Sequence

import msgspec

from chat_worker.settings import ChatSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.ladder import Ladder, Rung
from worker_runtime.memory.need import Need


def as_told(ladder: Ladder, settings: ChatSettings) -> Ladder:
    """`ladder`, with needs by the factor of the weights' quantization where there is one."""
    factor = settings.memory_factors.get(settings.quantization)
    if factor is None:
        return ladder

    def told(entry: ModelEntry) -> Sequence[Rung]:
        return [_told(rung, factor) for rung in ladder(entry)]

    return told


def _told(rung: Rung, factor: float) -> Rung:
    if rung.entry.backend != "transformers":
        return rung
    return msgspec.structs.replace(rung, need=Need(weights=int(rung.entry.size_bytes * factor)))
