"""Which models exist, and whether each of them fits into the memory that is free now."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from chat_worker import discovery as chat
from chat_worker.expansion import with_expansion_factors
from chat_worker.load_options import ChatLoadOptions
from chat_worker.settings import ChatSettings
from embed_worker import discovery as embed
from embed_worker import memory_estimate as embed_need
from embed_worker.settings import EmbedSettings
from worker_runtime.catalog import ModelEntry, Scan
from worker_runtime.lifecycle.calibration import FILE, Calibration
from worker_runtime.lifecycle.load_options import LoadOption, LoadOptions
from worker_runtime.machine import Machine
from worker_runtime.machine.kernel_memory import FILE as KERNELS
from worker_runtime.machine.kernel_memory import KernelMemory
from worker_runtime.memory.budget import MemoryBudget
from worker_runtime.memory.budget_now import budget_now
from worker_runtime.model_files.gguf import read_gguf_header
from worker_runtime.model_files.gguf_files import is_gguf
from worker_runtime.settings import RuntimeSettings

Verdict = Literal["fits", "fits reduced", "does not fit", "broken"]


@dataclass(frozen=True)
class ModelCapacity:
    """
    Args:
        need_bytes: memory that it needs without reductions; 0: it is broken.
        least_bytes: memory that it needs with all possible reductions.
        room_bytes: memory that is available for it now; None: the system does not report it.
        reductions: those with which it fits now.
    """

    id: str
    capability: str
    backend: str
    # Why that backend was chosen; empty if the format decides.
    backend_reason: str
    is_default: bool
    size_bytes: int
    # Such as Q4_K_M; empty if the files do not state it.
    quantization: str
    context_length: int
    need_bytes: int
    least_bytes: int
    room_bytes: int | None
    verdict: Verdict
    reductions: list[str]
    broken: str


def capacities(
    chat_settings: ChatSettings, embed_settings: EmbedSettings, machine: Machine
) -> list[ModelCapacity]:
    """The capacity of every model of the stack, as if no other model was loaded."""
    chat_scan, embed_scan = chat.ChatModelScan(chat_settings), embed.EmbedModelScan(embed_settings)
    chats, embeds = chat_load_options(chat_scan, chat_settings), embed_load_options(embed_settings)
    return [
        *_capacities(chat_scan(), chats, budget_now(chat_settings.policy(), machine)),
        *_capacities(embed_scan(), embeds, budget_now(embed_settings.policy(), machine)),
    ]


def chat_load_options(scan: chat.ChatModelScan, settings: ChatSettings) -> LoadOptions:
    """The load options for which the chat worker reserves memory."""
    return _corrected(with_expansion_factors(ChatLoadOptions(scan, settings), settings), settings)


def embed_load_options(settings: EmbedSettings) -> LoadOptions:
    """The load options for which the embedding worker reserves memory."""
    return _corrected(embed_need.load_options, settings)


def _corrected(load_options: LoadOptions, settings: RuntimeSettings) -> LoadOptions:
    kernels = KernelMemory(settings.learnt_dir / KERNELS, settings.selftest_environment)
    return kernels.applied(Calibration(settings.learnt_dir / FILE).corrected(load_options))


def _capacities(
    scan: Scan, load_options: LoadOptions, budget: MemoryBudget
) -> Iterator[ModelCapacity]:
    for entry in scan.entries:
        alternatives = () if entry.broken else load_options(entry)
        taken = next((option for option in alternatives if budget.fits(option.need.total)), None)
        needs = [option.need.total for option in alternatives] or [0]
        yield ModelCapacity(
            id=entry.id,
            capability=entry.capability,
            backend=(taken.entry if taken else entry).backend,
            backend_reason=(taken.entry if taken else entry).backend_reason,
            is_default=entry.id == scan.default_id,
            size_bytes=entry.size_bytes,
            quantization=_quantization(entry),
            context_length=entry.context_length,
            need_bytes=needs[0],
            least_bytes=min(needs),
            room_bytes=budget.free_bytes(),
            verdict="broken" if entry.broken else _verdict(taken),
            reductions=list(taken.reductions) if taken else [],
            broken=entry.broken,
        )


def _quantization(entry: ModelEntry) -> str:
    if entry.broken or not is_gguf(entry.path) or entry.path.is_dir():
        return ""
    return read_gguf_header(entry.path).quantization


def _verdict(taken: LoadOption | None) -> Verdict:
    if taken is None:
        return "does not fit"
    return "fits reduced" if taken.reductions else "fits"
