"""The load options of a chat model, each of which takes less memory than the one before.

As configured → a smaller batch → a smaller cache → a shorter context → an 8-bit cache → a smaller
file of the same model. Each option states what it gives up.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from chat_worker.backend_speeds import FILE, BackendSpeeds
from chat_worker.backends.sizes import n_cells
from chat_worker.conversions import unusable
from chat_worker.discovery import ChatModelScan
from chat_worker.memory_estimate import memory_need
from chat_worker.pipe_messages import LoadSpec, spec_decoder
from chat_worker.settings import ChatSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process import protocol
from worker_runtime.lifecycle.load_options import LoadOption, single_option
from worker_runtime.model_files.folders import is_openvino_folder
from worker_runtime.model_files.foreign_files import real_path

LEAST_CONTEXT = 1024
LEAST_MICRO_BATCH = 128
MEASURED_CONTEXT = 512
MAX_OPTIONS = 12
# The most load options for smaller files, if there are such files.
MAX_FALLBACKS = 6
COMPARED = ("llama.cpp", "transformers")
BACKENDS = (*COMPARED, "openvino")

T = TypeVar("T")

log = logging.getLogger(__name__)


class ChatLoadOptions:
    def __init__(self, scan: ChatModelScan, settings: ChatSettings) -> None:
        self._scan = scan
        self._settings = settings
        # What was measured of models that two backends can run.
        self.speeds = BackendSpeeds(settings.learnt_dir / FILE)

    def __call__(self, entry: ModelEntry) -> Sequence[LoadOption]:
        if entry.backend not in BACKENDS:
            return single_option(entry)
        return [self._with_prefixes(option) for option in self._on_backends(entry)]

    def _options(self, entry: ModelEntry) -> Sequence[LoadOption]:
        wanted, *smaller = self._specs(entry)
        if not self._settings.load_ladder:
            return (_option(entry, wanted, wanted),)
        instead = [
            option for other in self._fallbacks(entry) for option in self._instead(entry, other)
        ]
        instead = _spread(instead, MAX_FALLBACKS)
        own = _spread([wanted, *smaller], MAX_OPTIONS - len(instead))
        return [*(_option(entry, spec, wanted) for spec in own), *instead]

    def to_compare(self, entry: ModelEntry) -> tuple[LoadOption, LoadOption] | None:
        """How `entry` is measured on the backend that its format is for, and on OpenVINO; None if
        that is known, or if there is nothing to choose.

        Raises:
            InvalidModelFile, OSError: its files are not as they were.
        """
        if self._settings.backend or entry.backend not in COMPARED or self.speeds.of(entry):
            return None
        other = self._scan.on(entry, "openvino")
        if unusable(spec_decoder.decode(other.load_spec)):
            return None
        return _measuring(entry), _measuring(other)

    def _on_backends(self, entry: ModelEntry) -> Sequence[LoadOption]:
        if entry.backend == "openvino":
            return self._on_openvino(entry)
        if self._settings.backend == "openvino":
            return self._instead_of_openvino(entry, unusable(spec_decoder.decode(entry.load_spec)))
        if self._settings.backend or (found := self.speeds.of(entry)) is None:
            return self._options(entry)
        if found.prefers_openvino:
            options = self._on_openvino(self._scan.on(entry, "openvino"))
        else:
            options = self._options(entry)
        return [_reasoned(option, found.text) for option in options]

    def _on_openvino(self, entry: ModelEntry) -> Sequence[LoadOption]:
        """The load options on OpenVINO, then those of the same files on the backend that their
        format is for; they state why."""
        if is_openvino_folder(entry.path):
            # No other library reads it, so the load reports what is wrong.
            return self._options(entry)
        reason = unusable(spec_decoder.decode(entry.load_spec))
        instead = self._instead_of_openvino(self._scan.on(entry, ""), reason)
        return instead if reason else [*self._options(entry), *instead]

    def _instead_of_openvino(self, entry: ModelEntry, reason: str) -> list[LoadOption]:
        served = served_instead(entry.backend, reason)
        return [
            replace(option, reductions=(served, *option.reductions))
            for option in self._options(entry)
        ]

    def _with_prefixes(self, option: LoadOption) -> LoadOption:
        """The option with the memory that it may use for its prefix cache."""
        spare = self._settings.kept_memory_bytes
        return replace(option, need=replace(option.need, spare=spare))

    def _specs(self, entry: ModelEntry) -> list[LoadSpec]:
        """The configured spec, then specs that each give up one thing more."""
        wanted = spec_decoder.decode(entry.load_spec)
        specs = [wanted, *smaller_specs(wanted, entry.context_length)]
        if wanted.kv_type != "q8_0" and self._scan.takes_q8_cache(entry):
            specs.append(replace(specs[-1], kv_type="q8_0"))
        return specs

    def _fallbacks(self, entry: ModelEntry) -> list[ModelEntry]:
        """Models that may replace `entry`: for the default model first those that FALLBACK_MODELS
        names, then smaller files of the same model, the largest first."""
        near = self._scan.near(entry)
        found = self._named(near) if entry.id == self._scan.default_id else []
        found += sorted(
            (other for other in near if self._may_stand_in(entry, other)),
            key=lambda other: -other.size_bytes,
        )
        return list({other.path: other for other in found}.values())

    def _named(self, near: list[ModelEntry]) -> list[ModelEntry]:
        found = []
        for name in self._settings.fallback_names:
            place = real_path(self._settings.models_dir / name)
            meant = [other for other in near if other.id == name or real_path(other.path) == place]
            if not meant:
                log.warning("FALLBACK_MODELS names %r, which is not a model on this server", name)
            found += meant
        return found

    def _may_stand_in(self, entry: ModelEntry, other: ModelEntry) -> bool:
        is_less = other.backend != entry.backend or other.size_bytes < entry.size_bytes
        return other.backend == "llama.cpp" and is_less and self._is_same(entry, other)

    def _is_same(self, entry: ModelEntry, other: ModelEntry) -> bool:
        return self._scan.family(other) in self._scan.family(entry)

    def _instead(self, entry: ModelEntry, other: ModelEntry) -> list[LoadOption]:
        """Load options for `other`: as configured, and with the least memory."""
        wanted, *smaller = self._specs(other)
        served = f"served by {self._described(entry, other)}"
        return [_option(other, spec, wanted, served) for spec in (wanted, *smaller[-1:])]

    def _described(self, entry: ModelEntry, other: ModelEntry) -> str:
        if other.id == entry.id:
            return f"{other.path.name} through {other.backend}"
        if not self._is_same(entry, other):
            return f"{other.id}, named in FALLBACK_MODELS"
        size = "a smaller" if other.size_bytes < entry.size_bytes else "another"
        return f"{other.id}, {size} file of the same model"


def _measuring(entry: ModelEntry) -> LoadOption:
    spec = replace(
        spec_decoder.decode(entry.load_spec),
        measures=True,
        n_ctx=MEASURED_CONTEXT,
        n_cells=MEASURED_CONTEXT,
        n_parallel=1,
    )
    return _option(entry, spec, spec)


def _reasoned(option: LoadOption, reason: str) -> LoadOption:
    return replace(option, entry=replace(option.entry, backend_reason=reason))


def served_instead(backend: str, reason: str) -> str:
    return f"on {backend}, not OpenVINO: {reason or 'it could not be loaded there'}"


def smaller_specs(spec: LoadSpec, n_ctx: int) -> Iterator[LoadSpec]:
    """`spec` with one reduction, then with one more; the weights' precision stays."""
    if spec.backend in ("llama.cpp", "openvino"):
        for n_ubatch in _halved(spec.n_ubatch, LEAST_MICRO_BATCH):
            spec = replace(spec, n_ubatch=n_ubatch)
            yield spec
    for cells in _halved(n_cells(spec, n_ctx), n_cells(replace(spec, n_cells=n_ctx), n_ctx)):
        spec = replace(spec, n_cells=cells)
        yield spec
    for shorter in _halved(n_ctx, LEAST_CONTEXT):
        spec = replace(spec, n_ctx=shorter, n_cells=shorter, wanted_n_ctx=n_ctx)
        yield spec


def _halved(number: int, least: int) -> Iterator[int]:
    while number > least:
        number = max(number // 2, least)
        yield number


def _option(entry: ModelEntry, spec: LoadSpec, wanted: LoadSpec, *served: str) -> LoadOption:
    reduced = replace(entry, load_spec=protocol.raw(spec))
    reductions = tuple(_reductions(spec, wanted, entry.context_length))
    plain = (
        protocol.raw(replace(spec, extra_buffers=False)) if spec.backend == "llama.cpp" else None
    )
    return LoadOption(reduced, memory_need(spec), (*served, *reductions), plain)


def _reductions(spec: LoadSpec, wanted: LoadSpec, n_ctx: int) -> Iterator[str]:
    if spec.n_ctx < n_ctx:
        yield _context_text(spec.n_ctx, n_ctx)
    cells, wanted_cells = n_cells(spec, min(spec.n_ctx, n_ctx)), n_cells(wanted, n_ctx)
    if cells < wanted_cells:
        yield f"KV cache of {cells:,} tokens instead of {wanted_cells:,}"
    if spec.kv_type != wanted.kv_type:
        yield f"KV cache in {spec.kv_type}"
    if spec.n_ubatch < wanted.n_ubatch:
        yield f"{spec.n_ubatch} tokens computed at a time instead of {wanted.n_ubatch}"


def _context_text(n_ctx: int, wanted: int) -> str:
    return f"context of {n_ctx:,} tokens instead of {wanted:,}"


def _spread(items: list[T], most: int) -> list[T]:
    """At most `most` of the items, evenly spread, including the first and the last."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
