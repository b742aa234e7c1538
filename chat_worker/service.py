"""Which chat models there are: looks at the main model's path, the models folder, and the guide."""

import importlib.metadata
import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chat_worker.messages import LoadSpec
from chat_worker.settings import ChatSettings
from worker_runtime import wire
from worker_runtime.catalog import ModelEntry, Scan, fingerprint
from worker_runtime.gguf_header import read_gguf_header
from worker_runtime.invalid_file import InvalidModelFile
from worker_runtime.safetensors_header import check_safetensors

GUIDE_ID = "qwen2-y26hkx-guide"
GUIDE_FOLDER = Path(__file__).parent.parent / "models" / "guide"
SUBFOLDERS = ("qwen", "guide")
ENGINE_MODULE = "chat_worker.engine_process"
PACKAGES = {"llama.cpp": "llama-cpp-python", "transformers": "transformers"}
# Architectures in GGUF files that do not chat: encoders, projectors of vision models, voices.
OTHER_ARCHITECTURES = re.compile(r"bert|clip|t5encoder|embedding|wavtokenizer|dream|llada", re.I)
SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


class _Seen(msgspec.Struct, frozen=True):
    """What the header of an unchanged file said."""

    is_chat: bool
    context_length: int
    broken: str = ""


class ModelScan:
    """Finds the models; headers of unchanged files are read once."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        self._seen: dict[tuple[str, int, int], _Seen] = {}

    def __call__(self) -> Scan:
        entries: dict[str, ModelEntry] = {}
        main_id = ""
        for path in self._model_paths(self._settings.model_path):
            if entry := self._entry(path):
                entries.setdefault(entry.id, entry)
                main_id = main_id or entry.id
        for path in self._library():
            if entry := self._entry(path):
                self._add(entries, entry)
        default_id = main_id or (GUIDE_ID if GUIDE_ID in entries else "")
        return Scan(list(entries.values()), default_id)

    def _add(self, entries: dict[str, ModelEntry], entry: ModelEntry) -> None:
        """Of two models with one id, that of the wanted backend, else the GGUF."""
        other = entries.get(entry.id)
        wanted = self._settings.backend or "llama.cpp"
        if other is None or (other.backend != wanted and entry.backend == wanted):
            entries[entry.id] = entry

    def _library(self) -> Iterator[Path]:
        root = self._settings.models_dir
        built_in = [GUIDE_FOLDER] if self._settings.builtin_models else []
        for folder in (root, *(root / name for name in SUBFOLDERS), *built_in):
            if folder.is_dir():
                for path in sorted(folder.iterdir()):
                    yield from self._model_paths(path)

    def _model_paths(self, path: Path) -> list[Path]:
        """The models at `path`: itself, or the GGUF files in a folder, best quantization first."""
        if path.is_file():
            return [path] if path.suffix == ".gguf" and not _is_later_shard(path) else []
        if not path.is_dir() or path.name.startswith("."):
            return []
        files = [f for f in sorted(path.glob("*.gguf")) if not _is_later_shard(f)]
        is_transformers = (path / "config.json").is_file() and any(path.glob("*.safetensors"))
        if is_transformers and (self._settings.backend == "transformers" or not files):
            return [path]
        return sorted(files, key=lambda f: ("q4_k_m" not in f.name.lower(), f.name))

    def _entry(self, path: Path) -> ModelEntry | None:
        weights = _weights(path)
        stats = [file.stat() for file in weights]
        size_bytes = sum(stat.st_size for stat in stats)
        mtime_ns = max((stat.st_mtime_ns for stat in stats), default=0)
        key = (str(path), size_bytes, mtime_ns)
        if key not in self._seen:
            self._seen[key] = _look(path, weights)
        seen = self._seen[key]
        if not seen.is_chat:
            return None
        backend = "llama.cpp" if path.suffix == ".gguf" else "transformers"
        model_id = SHARD.sub("", path.stem) if path.is_file() else path.name
        return ModelEntry(
            id=model_id,
            capability="chat",
            backend=backend,
            path=path,
            size_bytes=size_bytes,
            created_s=mtime_ns // 1_000_000_000,
            context_length=self._context(seen.context_length),
            fingerprint=fingerprint(path, size_bytes, mtime_ns, backend, _version(backend)),
            load_spec=wire.raw(self._spec(model_id, backend, path)),
            engine_module=ENGINE_MODULE,
            broken=seen.broken,
        )

    def _context(self, trained: int) -> int:
        wanted = self._settings.request_tokens
        return min(wanted, trained) if trained else wanted

    def _spec(self, model_id: str, backend: str, path: Path) -> LoadSpec:
        settings = self._settings
        return LoadSpec(
            backend=backend,
            path=str(path),
            model_id=model_id,
            n_ctx=settings.request_tokens,
            n_cells=settings.cache_tokens,
            n_parallel=settings.parallel,
            n_batch=settings.batch_tokens,
            n_ubatch=settings.micro_batch_tokens,
            n_threads=settings.threads,
            max_input_tokens=settings.max_input_tokens,
            max_input_chars=settings.max_input_chars,
            on_overflow=settings.on_overflow,
            default_system_prompt=settings.default_system_prompt,
            global_seed=settings.global_seed,
        )


def _look(path: Path, weights: list[Path]) -> _Seen:
    try:
        return _look_at_gguf(weights) if path.is_file() else _look_at_folder(path, weights)
    except (InvalidModelFile, OSError) as error:
        return _Seen(is_chat=True, context_length=0, broken=str(error))


def _look_at_gguf(shards: list[Path]) -> _Seen:
    first = read_gguf_header(shards[0])
    for shard in shards[1:]:
        read_gguf_header(shard)
    is_chat = not OTHER_ARCHITECTURES.search(first.architecture) and first.vocabulary_size > 0
    return _Seen(is_chat, first.context_length)


def _look_at_folder(folder: Path, weights: list[Path]) -> _Seen:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidModelFile("config.json is not valid JSON") from error
    architectures = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(architectures, list) or (folder / "modules.json").exists():
        return _Seen(is_chat=False, context_length=0)
    if not any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in architectures):
        return _Seen(is_chat=False, context_length=0)
    for file in weights:
        check_safetensors(file)
    trained = config.get("max_position_embeddings", 0)
    return _Seen(is_chat=True, context_length=trained if isinstance(trained, int) else 0)


def _weights(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.safetensors"))
    match = SHARD.search(path.stem)
    if match is None:
        return [path]
    begun = path.stem[: match.start()]
    return sorted(path.parent.glob(f"{begun}-?????-of-{match[2]}.gguf"))


def _is_later_shard(path: Path) -> bool:
    match = SHARD.search(path.stem)
    return match is not None and match[1] != "00001"


def _version(backend: str) -> str:
    try:
        return importlib.metadata.version(PACKAGES[backend])
    except importlib.metadata.PackageNotFoundError:
        return ""
