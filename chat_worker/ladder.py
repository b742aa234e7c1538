"""The ways to load a chat model, each taking less memory than the one before.

As wanted → fewer tokens computed at a time → a smaller cache → a shorter context → a cache in
8 bits → a smaller file of the same model. What a way gives up, it says.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from chat_worker.backends.sizes import n_cells
from chat_worker.messages import LoadSpec, spec_decoder
from chat_worker.service import ModelScan
from chat_worker.settings import ChatSettings
from worker_runtime import wire
from worker_runtime.catalog import ModelEntry
from worker_runtime.ladder import Rung, as_it_is
from worker_runtime.memory.estimate import estimate
from worker_runtime.memory.need import Need

LEAST_CONTEXT = 1024
LEAST_MICRO_BATCH = 128
MAX_RUNGS = 12
# Of these for smaller files, where there are any.
MAX_FALLBACKS = 6
BACKENDS = ("llama.cpp", "transformers")

T = TypeVar("T")

log = logging.getLogger(__name__)


class ChatLadder:
    def __init__(self, scan: ModelScan, settings: ChatSettings) -> None:
        self._scan = scan
        self._settings = settings

    def __call__(self, entry: ModelEntry) -> Sequence[Rung]:
        if entry.backend not in BACKENDS:
            return as_it_is(entry)
        wanted, *smaller = _ways(entry)
        if not self._settings.load_ladder:
            return (_rung(entry, wanted, wanted),)
        instead = [rung for other, what in self._fallbacks(entry) for rung in _instead(other, what)]
        instead = _spread(instead, MAX_FALLBACKS)
        own = _spread([wanted, *smaller], MAX_RUNGS - len(instead))
        return [*(_rung(entry, spec, wanted) for spec in own), *instead]

    def _fallbacks(self, entry: ModelEntry) -> Iterator[tuple[ModelEntry, str]]:
        """What may serve in its place, and what that is: for the default model those that were
        named, then smaller files of the same model, the largest first."""
        near = self._scan.near(entry)
        named = self._settings.fallback_names if entry.id == self._scan.default_id else []
        for name in named:
            place = (self._settings.models_dir / name).resolve()
            found = [o for o in near if o.id == name or o.path.resolve() == place]
            if not found:
                log.warning("FALLBACK_MODELS names %r, which is no model here", name)
            yield from ((other, "a smaller model") for other in found)
        family = self._scan.family(entry)
        for other in sorted(near, key=lambda o: -o.size_bytes):
            is_smaller = other.size_bytes < entry.size_bytes
            may_serve = other.backend == "llama.cpp" and (
                is_smaller or other.backend != entry.backend
            )
            if may_serve and other.id not in named and self._scan.family(other) in family:
                yield other, f"{'a smaller' if is_smaller else 'another'} file of the same model"


def _instead(other: ModelEntry, what: str) -> tuple[Rung, Rung]:
    """As it would be loaded itself, and as small as it gets."""
    wanted, *_, least = _ways(other)
    served = f"served by {other.id}, {what}"
    return _rung(other, wanted, wanted, served), _rung(other, least, wanted, served)


def _ways(entry: ModelEntry) -> Iterator[LoadSpec]:
    """The wanted one, then each with one thing less; what it gives up adds up."""
    spec = spec_decoder.decode(entry.load_spec)
    yield spec
    is_llama = entry.backend == "llama.cpp"
    if is_llama:
        for n_ubatch in _halved(spec.n_ubatch, LEAST_MICRO_BATCH):
            spec = msgspec.structs.replace(spec, n_ubatch=n_ubatch)
            yield spec
    n_ctx = entry.context_length
    for cells in _halved(n_cells(spec, n_ctx), n_ctx):
        spec = msgspec.structs.replace(spec, n_cells=cells)
        yield spec
    for shorter in _halved(n_ctx, LEAST_CONTEXT):
        why = f"the model was loaded with a {_said_context(shorter, n_ctx)}, for lack of memory"
        spec = msgspec.structs.replace(spec, n_ctx=shorter, n_cells=shorter, why_short=why)
        yield spec
    if is_llama and spec.kv_type != "q8_0":
        yield msgspec.structs.replace(spec, kv_type="q8_0")


def _halved(number: int, least: int) -> Iterator[int]:
    while number > least:
        number = max(number // 2, least)
        yield number


def _rung(entry: ModelEntry, spec: LoadSpec, wanted: LoadSpec, *served: str) -> Rung:
    reduced = msgspec.structs.replace(entry, load_spec=wire.raw(spec))
    said = tuple(_reductions(spec, wanted, entry.context_length))
    return Rung(reduced, _need(entry, spec), (*served, *said))


def _reductions(spec: LoadSpec, wanted: LoadSpec, n_ctx: int) -> Iterator[str]:
    if spec.n_ctx < n_ctx:
        yield _said_context(spec.n_ctx, n_ctx)
    cells, wanted_cells = n_cells(spec, min(spec.n_ctx, n_ctx)), n_cells(wanted, n_ctx)
    if cells < wanted_cells:
        yield f"KV cache of {cells:,} tokens instead of {wanted_cells:,}"
    if spec.kv_type != wanted.kv_type:
        yield f"KV cache in {spec.kv_type}"
    if spec.n_ubatch < wanted.n_ubatch:
        yield f"{spec.n_ubatch} tokens computed at a time instead of {wanted.n_ubatch}"


def _said_context(n_ctx: int, wanted: int) -> str:
    return f"context of {n_ctx:,} tokens instead of {wanted:,}"


def _need(entry: ModelEntry, spec: LoadSpec) -> Need:
    """A guess from the size of the weights: what is kept beside them goes by tokens."""
    whole = estimate(entry)
    beside = max(whole.weights - entry.size_bytes, 0)
    share = n_cells(spec, min(spec.n_ctx, entry.context_length)) / (4 * LEAST_CONTEXT)
    kv = int(beside * share * (0.53 if spec.kv_type == "q8_0" else 1))
    compute = int(beside * spec.n_ubatch / 512)
    return Need(weights=entry.size_bytes, kv=kv, compute=compute, process=whole.process)


def _spread(items: list[T], most: int) -> list[T]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
