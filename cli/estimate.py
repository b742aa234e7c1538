"""`y26hkx estimate MODEL`: the memory of a model by its parts, and whether it fits now.

It reads headers only: no model is loaded, and no model library is imported. A load reserves the
same amount.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from pydantic import ValidationError

from chat_worker.discovery import ChatModelScan as ChatScan
from chat_worker.memory_estimate import memory_need as chat_need
from chat_worker.pipe_messages import LoadSpec, spec_decoder
from chat_worker.settings import ChatSettings
from cli.capacity import chat_load_options, embed_load_options
from common.model_ids import same_model_id
from common.sizes import mib
from embed_worker.discovery import EmbedModelScan as EmbedScan
from embed_worker.settings import EmbedSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.machine import read_machine
from worker_runtime.memory.budget import MemoryBudget
from worker_runtime.memory.budget_now import budget_now
from worker_runtime.memory.need import Need
from worker_runtime.memory.spare import spare_of
from worker_runtime.model_files.folders import (
    is_cross_encoder_folder,
    is_sentence_transformers_folder,
    read_causal_lm,
)
from worker_runtime.model_files.gguf import read_gguf_header
from worker_runtime.model_files.gguf_files import gguf_models

CONTEXT_STEP = 256
# Fields of `ChatSettings` by option.
OPTIONS = {
    "ctx": "context_tokens",
    "slots": "parallel",
    "ubatch": "micro_batch_tokens",
    "dtype": "torch_dtype",
    "kv_type": "kv_type",
    "quantization": "quantization",
}
PARTS = {
    "weights": "weights",
    "kv": "KV cache",
    "compute": "compute buffers",
    "caches": "caches",
    "process": "process and libraries",
    "converting": "converting, once",
    "correction": "learnt from past loads",
}


class EstimateError(Exception):
    """Nothing can be estimated; the message has the reason."""


@dataclass(frozen=True)
class Estimate:
    """
    Args:
        parts: bytes by name, those that are zero left out.
        total_bytes: what a load reserves at the least.
        spare_bytes: what it would reserve now beyond that, for past conversations.
        peak_bytes: the largest resident memory while it loads or works. It includes mapped pages
            of the model's file, which the system can reclaim.
        room_bytes: what could be reserved now; None: the system does not report it.
        fits_reduced: the reductions with which it fits, if it does not fit without.
        largest_context: tokens of one request with which it would fit now; None: no chat model.
    """

    path: str
    capability: str
    backend: str
    context_length: int
    parts: dict[str, int]
    total_bytes: int
    spare_bytes: int
    peak_bytes: int
    available_bytes: int | None
    headroom_bytes: int
    room_bytes: int | None
    fits: bool
    fits_reduced: list[str]
    largest_context: int | None


def estimate(path: Path, options: Mapping[str, object], *, as_json: bool) -> int:
    """Print the estimate and return the exit status: 1 if there is no model at `path`, or an option
    is invalid."""
    try:
        found = _estimate(path, {OPTIONS[name]: value for name, value in options.items()})
    except EstimateError as error:
        sys.stderr.write(f"y26hkx estimate: {error}\n")
        return 1
    lines = [json.dumps(asdict(found), indent=2)] if as_json else _lines(found)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _estimate(path: Path, fields: dict[str, object]) -> Estimate:
    path = _path_of(path)
    try:
        settings = ChatSettings(model_path=path, backend=_backend(path), **fields)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        raise EstimateError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    scan = ChatScan(settings)
    found = scan()
    if found.problem:
        sys.stderr.write(f"{found.problem}\n")
    here = (e for e in found.entries if path in (e.path, e.path.parent))
    entry = next(here, None)
    if entry is None or is_sentence_transformers_folder(path) or is_cross_encoder_folder(path):
        return _of_embedder(path)
    _refuse_broken(entry)
    alternatives = chat_load_options(scan, settings)(entry)
    budget = budget_now(settings.policy(), read_machine())
    spec = spec_decoder.decode(entry.load_spec)
    largest = None if entry.backend == "remote" else _largest_context(spec, entry, budget)
    return _described(entry, alternatives, budget, largest)


def _path_of(named: Path) -> Path:
    """The path itself, or that of the model with this id."""
    if named.exists():
        return named
    entries = [*ChatScan(ChatSettings())().entries, *EmbedScan(EmbedSettings())().entries]
    for entry in entries:
        if entry.backend != "remote" and same_model_id(entry.id, named.as_posix()):
            return entry.path
    raise EstimateError(f"{named} does not exist, neither as a path nor among those of y26hkx ls")


def _backend(path: Path) -> str:
    """The backend of the format that was named, since a folder may have both formats."""
    return "transformers" if path.is_dir() and not gguf_models(path) else ""


def _of_embedder(path: Path) -> Estimate:
    settings = EmbedSettings()
    entry = EmbedScan(settings).entry_at(path)
    if entry is None:
        raise EstimateError(f"{path} is no model: expected a GGUF file or the folder of a model")
    _refuse_broken(entry)
    alternatives = embed_load_options(settings)(entry)
    return _described(entry, alternatives, budget_now(settings.policy(), read_machine()), None)


def _refuse_broken(entry: ModelEntry) -> None:
    if entry.broken:
        raise EstimateError(f"{entry.path} cannot be loaded: {entry.broken}")


def _described(
    entry: ModelEntry, alternatives: Sequence[LoadOption], budget: MemoryBudget, largest: int | None
) -> Estimate:
    need, free = alternatives[0].need, budget.free_bytes()
    taken = next((option for option in alternatives if budget.fits(option.need.total)), None)
    return Estimate(
        path=str(entry.path),
        capability=entry.capability,
        backend=entry.backend,
        context_length=entry.context_length,
        parts=_parts(need),
        total_bytes=need.total,
        spare_bytes=spare_of(None if free is None else free - need.total, need.spare),
        peak_bytes=need.peak,
        available_bytes=budget.available_bytes,
        headroom_bytes=budget.headroom_bytes,
        room_bytes=free,
        fits=taken is alternatives[0],
        fits_reduced=[] if taken is None else list(taken.reductions),
        largest_context=largest,
    )


def _parts(need: Need) -> dict[str, int]:
    return {name: getattr(need, name) for name in PARTS if getattr(need, name)}


def _largest_context(spec: LoadSpec, entry: ModelEntry, budget: MemoryBudget) -> int:
    """The largest context that fits, by binary search up to the context of the training.

    The memory grows with the context, so that the search is valid.
    """

    def fits(steps: int) -> bool:
        wanted = msgspec.structs.replace(spec, n_ctx=steps * CONTEXT_STEP, n_cells=0)
        return budget.fits(chat_need(wanted).total)

    low, high = 0, _trained_tokens(entry) // CONTEXT_STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low * CONTEXT_STEP


def _trained_tokens(entry: ModelEntry) -> int:
    path = entry.path
    read = read_causal_lm if path.is_dir() else read_gguf_header
    return read(path).context_length or entry.context_length


def _lines(found: Estimate) -> Iterator[str]:
    context = f", context of {found.context_length:,} tokens" if found.context_length else ""
    yield f"{found.path}: {found.capability} model for {found.backend}{context}"
    for name, n_bytes in found.parts.items():
        yield f"{PARTS[name]:<34}{mib(n_bytes):>14}"
    yield f"{'total':<34}{mib(found.total_bytes):>14}"
    if found.spare_bytes:
        yield f"{'past conversations, if free':<34}{mib(found.spare_bytes):>14}"
    if found.peak_bytes > found.total_bytes:
        yield f"{'peak, with the mapped file':<34}{mib(found.peak_bytes):>14}"
    if found.available_bytes is not None:
        yield f"{'available now':<34}{mib(found.available_bytes):>14}"
        yield f"{'headroom that stays free':<34}{mib(found.headroom_bytes):>14}"
    if found.fits:
        yield "it fits"
    elif found.fits_reduced:
        yield f"it fits reduced: {'; '.join(found.fits_reduced)}"
    else:
        yield "it does not fit"
    if found.largest_context is not None:
        yield f"largest context of a request that fits: {found.largest_context:,} tokens"
