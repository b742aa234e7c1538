"""What a folder under the models folder holds, told from its small files; weights are not read.

Code that comes with a model is never run: `auto_map` and foreign sentence-transformers modules
make a model broken, and so do pickled weights.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.safetensors import check_safetensors

MAX_CONFIG_BYTES = 4 * 1024 * 1024
MAX_SHARDS = 1024
GENERATES = ("ForCausalLM", "LMHeadModel")
SCORES = "ForSequenceClassification"
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


class CausalLm(msgspec.Struct, frozen=True):
    """A transformers model that generates text."""

    architecture: str
    # Tokens; 0 if the config does not say.
    context_length: int
    weights: "Weights"


class SentenceEncoder(msgspec.Struct, frozen=True):
    """A sentence-transformers model."""

    # Types of its modules, in order.
    modules: tuple[str, ...]
    # Tokens; 0 if the config does not say.
    context_length: int
    weights: "Weights"
    # Length of its vectors where the model's authors want them shorter than it makes them, which
    # they train it for; 0: they do not say.
    truncate_dim: int


class CrossEncoder(msgspec.Struct, frozen=True):
    """A transformers model that gives a pair of texts one score."""

    # Tokens; 0 if the config does not say.
    context_length: int
    weights: "Weights"


class Weights(msgspec.Struct, frozen=True):
    """Files of weights, all checked."""

    files: tuple[Path, ...]
    size_bytes: int
    mtime_ns: int


def is_causal_lm_folder(folder: Path) -> bool:
    """Whether `folder` says of itself that it is a transformers model that generates text."""
    if (folder / "modules.json").is_file() or not (folder / "config.json").is_file():
        return False
    try:
        return bool(_architecture(_read_object(folder / "config.json"), *GENERATES))
    except InvalidModelFile:
        # It says that it is a model, and is a broken one.
        return True


def read_causal_lm(folder: Path) -> CausalLm:
    """
    Raises:
        InvalidModelFile: it cannot or must not be loaded, with the reason.
        OSError: a file cannot be read.
    """
    config = _read_object(folder / "config.json")
    _refuse_code(config)
    architecture = _architecture(config, *GENERATES)
    return CausalLm(architecture, _context_length(config), folder_weights(folder))


def is_sentence_transformers_folder(folder: Path) -> bool:
    return (folder / "modules.json").is_file() and not is_cross_encoder_folder(folder)


def is_cross_encoder_folder(folder: Path) -> bool:
    """Whether `folder` says of itself that it scores texts, as older or newer libraries save it."""
    try:
        if (folder / "modules.json").is_file():
            said = _read_if_there(folder / "config_sentence_transformers.json").get("model_type")
            return said == "CrossEncoder"
        config = _read_if_there(folder / "config.json")
    except InvalidModelFile:
        return False
    return bool(_architecture(config, SCORES))


def read_cross_encoder(folder: Path) -> CrossEncoder:
    """
    Raises:
        InvalidModelFile: it cannot or must not be loaded, with the reason.
        OSError: a file cannot be read.
    """
    if (folder / "modules.json").is_file():
        _read_modules(folder / "modules.json")
    config = _read_object(folder / "config.json")
    _refuse_code(config)
    if not _architecture(config, SCORES):
        raise InvalidModelFile("it is a reranker of a kind that is not run here")
    labels = config.get("id2label")
    # A config that says nothing of labels has two.
    n_labels = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
    if n_labels != 1:
        raise InvalidModelFile("it sorts texts into classes; a reranker has one output")
    return CrossEncoder(_context_length(config), folder_weights(folder))


def read_sentence_encoder(folder: Path) -> SentenceEncoder:
    """
    Raises:
        InvalidModelFile: it cannot or must not be loaded, with the reason.
        OSError: a file cannot be read.
    """
    modules = _read_modules(folder / "modules.json")
    config = _read_if_there(folder / "config.json")
    _refuse_code(config)
    limits = _read_if_there(folder / "sentence_bert_config.json")
    own = _read_if_there(folder / "config_sentence_transformers.json")
    context_length = _positive(limits.get("max_seq_length")) or _context_length(config)
    truncate_dim = _positive(own.get("truncate_dim"))
    return SentenceEncoder(modules, context_length, folder_weights(folder), truncate_dim)


def folder_weights(folder: Path) -> Weights:
    """The safetensors files that a loader would take from `folder`, all checked.

    Raises:
        InvalidModelFile: there are none, one is broken, or the weights are pickled.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = tuple(_indexed(folder, index))
    elif (folder / "model.safetensors").is_file():
        files = (folder / "model.safetensors",)
    else:
        files = tuple(sorted(folder.glob("*.safetensors")))
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        reason = "its weights are pickled, which can run code: convert them to safetensors"
        raise InvalidModelFile(reason if pickled else "there are no weights")
    for file in files:
        check_safetensors(file)
    return file_weights(files)


def file_weights(files: tuple[Path, ...]) -> Weights:
    stats = [file.stat() for file in files]
    size_bytes = sum(stat.st_size for stat in stats)
    return Weights(files, size_bytes, max((stat.st_mtime_ns for stat in stats), default=0))


def gguf_models(folder: Path) -> list[Path]:
    """The GGUF models in `folder`, each by its first shard; projectors of vision models left out.

    Files with names that end in `-00002-of-00003.gguf` and so on belong to their first one.
    """
    return [
        path
        for path in sorted(folder.glob("*.gguf"))
        if "mmproj" not in path.name.casefold() and _shard_number(path) in (None, 1)
    ]


def gguf_shards(first: Path) -> tuple[Path, ...]:
    """All files of the model that begins with `first`.

    Raises:
        InvalidModelFile: one is missing.
    """
    match = _SHARD.search(first.stem)
    if match is None:
        return (first,)
    count = int(match[2])
    if count > MAX_SHARDS:
        raise InvalidModelFile(f"it claims {count} shards")
    stem = first.stem[: match.start()]
    shards = tuple(
        first.with_name(f"{stem}-{number:05}-of-{match[2]}.gguf") for number in range(1, count + 1)
    )
    for shard in shards:
        if not shard.is_file():
            raise InvalidModelFile(f"the file {shard.name} is missing")
    return shards


def gguf_id(first: Path) -> str:
    """The model's id: the file's name without ending and shard number."""
    return _SHARD.sub("", first.stem)


def _shard_number(path: Path) -> int | None:
    match = _SHARD.search(path.stem)
    return int(match[1]) if match else None


def _indexed(folder: Path, index: Path) -> Iterator[Path]:
    weight_map = _read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidModelFile(f"{index.name} lists no weights")
    for name in sorted({str(name) for name in weight_map.values()}):
        if Path(name).name != name or "\\" in name:
            raise InvalidModelFile(f"{index.name} names a file outside the model's folder")
        if not (folder / name).is_file():
            raise InvalidModelFile(f"the file {name[:64]} is missing")
        yield folder / name


def _read_modules(path: Path) -> tuple[str, ...]:
    modules = _read_json(path)
    if not isinstance(modules, list) or not modules:
        raise InvalidModelFile("modules.json lists no modules")
    types = tuple(str(m.get("type", "")) if isinstance(m, dict) else "" for m in modules)
    for module in types:
        if not module.startswith("sentence_transformers."):
            raise InvalidModelFile(f"it needs the module {module[:64]!r}, which is foreign code")
    return types


def _refuse_code(config: dict[str, Any]) -> None:
    if "auto_map" in config:
        raise InvalidModelFile("it needs code that comes with it (auto_map), which is never run")


def _architecture(config: dict[str, Any], *endings: str) -> str:
    """The first with one of these endings; empty if none has."""
    names = config.get("architectures")
    found = names if isinstance(names, list) else []
    return next((str(name) for name in found if str(name).endswith(endings)), "")


def _context_length(config: dict[str, Any]) -> int:
    return next((n for key in CONTEXT_KEYS if (n := _positive(config.get(key)))), 0)


def _positive(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 1 << 31 else 0


def _read_object(path: Path) -> dict[str, Any]:
    value = _read_json(path)
    if not isinstance(value, dict):
        raise InvalidModelFile(f"{path.name} is not a JSON object")
    return value


def _read_if_there(path: Path) -> dict[str, Any]:
    return _read_object(path) if path.is_file() else {}


def _read_json(path: Path) -> Any:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise InvalidModelFile(f"{path.name} is too large")
    try:
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidModelFile(f"{path.name} is not valid JSON") from error
