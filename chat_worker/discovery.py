"""Which chat models there are: looks at the main model's path, the models folder, the guide, and
the list of models on other servers."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chat_worker.family import Family, family_of_folder, family_of_gguf
from chat_worker.pipe_messages import LoadSpec
from chat_worker.plugins.models import plugin_entry
from chat_worker.remote.models import is_default, remote_entries
from chat_worker.settings import ChatSettings
from common.packages import version_of
from worker_runtime.catalog import ModelEntry, Scan, fingerprint
from worker_runtime.engine_process import protocol
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folders import (
    gguf_id,
    gguf_models,
    gguf_shards,
    is_causal_lm_folder,
    read_causal_lm,
)
from worker_runtime.model_files.gguf import GgufHeader, read_gguf_header

GUIDE_ID = "qwen2-y26hkx-guide"
GUIDE_FOLDER = Path(__file__).parent.parent / "models" / "guide"
SUBFOLDERS = ("qwen", "guide")
EMBEDDING_FOLDER = "embedding"
ENGINE_MODULE = "chat_worker.engine_process"
TRANSFORMERS_REPETITION_PENALTY = 1.1  # what this backend has always had
PACKAGES = {"llama.cpp": "llama-cpp-python", "transformers": "transformers"}
# Architectures in GGUF files that do not chat: encoders, projectors of vision models, voices.
OTHER_ARCHITECTURES = re.compile(r"bert|clip|t5encoder|embedding|wavtokenizer|dream|llada", re.I)
Q8_BLOCK = 32
FileState = tuple[tuple[str, int, int], ...]


class _Inspected(msgspec.Struct, frozen=True):
    """What the header of an unchanged file said."""

    is_chat: bool
    context_length: int
    family: Family = Family()
    takes_q8_cache: bool = False
    broken: str = ""


class ChatModelScan:
    """Finds the models; headers of unchanged files are read once."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        self._seen: dict[tuple[Path, FileState], _Inspected] = {}
        self.default_id = ""

    def __call__(self) -> Scan:
        entries: dict[str, ModelEntry] = {}
        main_id = ""
        for main in self._main_models():
            entries.setdefault(main.id, main)
            main_id = main_id or main.id
        for path in self._library():
            if entry := self._entry(path):
                self._add(entries, entry)
        chosen_id = ""
        for remote in remote_entries(self._settings):
            if entries.setdefault(remote.id, remote) is remote and is_default(remote):
                chosen_id = chosen_id or remote.id
        main_id = chosen_id or main_id
        self.default_id = main_id or (GUIDE_ID if GUIDE_ID in entries else "")
        return Scan(list(entries.values()), self.default_id)

    def near(self, entry: ModelEntry) -> list[ModelEntry]:
        """The models beside `entry` and in the models folder that can be loaded, but for itself."""
        beside = [*gguf_models(entry.path), *gguf_models(entry.path.parent)]
        found = {path.resolve(): path for path in (*beside, *self._library())}
        found.pop(entry.path.resolve(), None)
        entries = filter(None, map(self._entry, found.values()))
        return [other for other in entries if not other.broken]

    def family(self, entry: ModelEntry) -> Family:
        return self._look(entry.path, _state(entry.path)).family

    def takes_q8_cache(self, entry: ModelEntry) -> bool:
        return self._look(entry.path, _state(entry.path)).takes_q8_cache

    def _main_models(self) -> Iterator[ModelEntry]:
        path = self._settings.model_path
        if plugin := self._settings.plugin:
            yield plugin_entry(path, self._spec(_id(path), plugin, path))
            return
        for found in self._model_paths(path):
            if entry := self._entry(found):
                yield entry

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
                    # What lies there embeds texts, also where its architecture could chat.
                    if path.name != EMBEDDING_FOLDER:
                        yield from self._model_paths(path)

    def _model_paths(self, path: Path) -> list[Path]:
        """The models at `path`: itself, or the GGUF files in a folder, best quantization first."""
        if path.is_file():
            return [path] if path.suffix == ".gguf" and path in gguf_models(path.parent) else []
        if not path.is_dir() or path.name.startswith("."):
            return []
        files = gguf_models(path)
        if is_causal_lm_folder(path) and (self._settings.backend == "transformers" or not files):
            return [path]
        return sorted(files, key=lambda f: ("q4_k_m" not in f.name.lower(), f.name))

    def _entry(self, path: Path) -> ModelEntry | None:
        state = _state(path)
        size_bytes = sum(size for name, size, _ in state if not name.endswith(".json"))
        mtime_ns = max((mtime_ns for _, _, mtime_ns in state), default=0)
        seen = self._look(path, state)
        if not seen.is_chat:
            return None
        backend = "llama.cpp" if path.suffix == ".gguf" else "transformers"
        model_id = _id(path)
        print_ = fingerprint(path, size_bytes, mtime_ns, backend, version_of(PACKAGES[backend]))
        return ModelEntry(
            id=model_id,
            capability="chat",
            backend=backend,
            path=path,
            size_bytes=size_bytes,
            created_s=mtime_ns // 1_000_000_000,
            context_length=self._context(seen.context_length),
            fingerprint=print_,
            load_spec=protocol.raw(
                msgspec.structs.replace(self._spec(model_id, backend, path), fingerprint=print_)
            ),
            engine_module=ENGINE_MODULE,
            broken=seen.broken,
        )

    def _look(self, path: Path, state: FileState) -> _Inspected:
        key = (path, state)
        if key not in self._seen:
            self._seen[key] = _look(path)
        return self._seen[key]

    def _context(self, trained: int) -> int:
        wanted = self._settings.request_tokens
        return min(wanted, trained) if trained else wanted

    def _spec(self, model_id: str, backend: str, path: Path) -> LoadSpec:
        settings = self._settings
        is_torch = backend == "transformers"
        return LoadSpec(
            backend=backend,
            # Whatever folder it is looked for from: what was learnt of it goes by this.
            path=os.path.abspath(path),
            model_id=model_id,
            n_ctx=settings.request_tokens,
            n_cells=settings.cache_tokens,
            n_parallel=settings.parallel,
            n_batch=settings.batch_tokens,
            n_ubatch=settings.micro_batch_tokens,
            n_threads=settings.torch_threads if is_torch else settings.threads,
            max_input_tokens=settings.max_input_tokens,
            max_input_chars=settings.max_input_chars,
            on_overflow=settings.on_overflow,
            default_system_prompt=settings.default_system_prompt,
            global_seed=settings.global_seed,
            speculate=settings.speculation,
            kv_type=settings.kv_type,
            kept_folder=str(settings.kept_folder.resolve()) if settings.kept_folder else "",
            kept_bytes=settings.kept_mb * 1024 * 1024,
            repetition_penalty=TRANSFORMERS_REPETITION_PENALTY if is_torch else 1.0,
            torch_dtype=settings.torch_dtype,
            quantization=settings.quantization,
            compile=settings.compile_model,
        )


def _id(path: Path) -> str:
    return gguf_id(path) if path.is_file() else path.name


def _look(path: Path) -> _Inspected:
    try:
        return _look_at_gguf(path) if path.is_file() else _look_at_folder(path)
    except (InvalidModelFile, OSError) as error:
        return _Inspected(is_chat=True, context_length=0, broken=str(error))


def _look_at_gguf(first: Path) -> _Inspected:
    headers = [read_gguf_header(shard) for shard in gguf_shards(first)]
    is_chat = not OTHER_ARCHITECTURES.search(headers[0].architecture)
    return _Inspected(
        is_chat and headers[0].vocabulary_size > 0,
        headers[0].context_length,
        family_of_gguf(gguf_id(first), headers[0]),
        _takes_q8_cache(headers[0]),
    )


def _takes_q8_cache(header: GgufHeader) -> bool:
    """llama.cpp writes the keys and values of each head in blocks of 32 numbers then."""

    def number(key: str) -> int:
        value = header.metadata.get(f"{header.architecture}.{key}")
        return value if isinstance(value, int) else 0

    usual = number("embedding_length") // max(number("attention.head_count"), 1)
    lengths = [number(f"attention.{part}_length") or usual for part in ("key", "value")]
    return all(length and length % Q8_BLOCK == 0 for length in lengths)


def _look_at_folder(folder: Path) -> _Inspected:
    return _Inspected(True, read_causal_lm(folder).context_length, family_of_folder(folder.name))


def _state(path: Path) -> FileState:
    """Names, sizes and times of the model's files: it changes when they do."""
    if path.is_dir():
        files = [*path.glob("*.safetensors"), *path.glob("*.json")]
    else:
        files = [f for f in path.parent.glob("*.gguf") if gguf_id(f) == gguf_id(path)]
    stats = ((file, file.stat()) for file in sorted(files))
    return tuple((file.name, stat.st_size, stat.st_mtime_ns) for file, stat in stats)
