"""Finds out from small files what kind of model a folder holds; weights are not read.

Code that comes with a model is never run: a model with `auto_map`, with foreign
sentence-transformers modules or with pickled weights counts as broken.
"""

import os
from pathlib import Path
from typing import Any

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.module_folders import Modules, read_modules, refuse_kind
from worker_runtime.model_files.odd_paths import printable
from worker_runtime.model_files.small_json import read_object
from worker_runtime.model_files.weights import Weights, file_weights, folder_weights

MAX_NAME = 128
OPENVINO_FILES = ("openvino_model.xml", "openvino_model.bin")
GENERATES = ("ForCausalLM", "LMHeadModel")
SCORES = "ForSequenceClassification"
# The endings of architectures that neither generate text nor score it.
ENCODES = ("Model", "ForMaskedLM", "ForPreTraining")
# The kinds of such models that read text; other kinds take audio or images.
READ_TEXT = frozenset(
    {"albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie",
     "eurobert", "gemma", "gemma2", "gemma3_text", "ibert", "llama", "longformer", "mistral",
     "modernbert", "mpnet", "nomic_bert", "qwen2", "qwen3", "roberta", "roformer", "xlm-roberta",
     "xlm-roberta-xl", "xmod"}
)  # fmt: skip
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
# Kinds of models whose positions begin after the padding's position.
COUNT_FROM_PADDING = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "xlm-roberta",
     "xlm-roberta-xl", "xmod"}
)  # fmt: skip

# Kinds of text-generating models whose rerankers answer "yes" or "no".
RERANKS_BY_WORDS = frozenset({"qwen3"})
# How many parts of a path may name a model: in a hub's cache the last is a hash.
NAMED_PARTS = 3
HIDDEN_KEYS = ("hidden_size", "dim", "d_model")


class CausalLm(msgspec.Struct, frozen=True):
    """A transformers model that generates text."""

    architecture: str
    # In tokens; 0 if the config does not state it.
    context_length: int
    weights: Weights


class SentenceEncoder(msgspec.Struct, frozen=True):
    """A sentence-transformers model, or the bare encoder of one."""

    # The types of its modules, in order; empty if it does not list them.
    modules: tuple[str, ...]
    # The folders of all modules but the first.
    module_folders: tuple[Path, ...]
    # In tokens; 0 if the config does not state it.
    context_length: int
    weights: Weights
    # The count of numbers per token between its layers; 0 if the config does not state it.
    hidden_size: int
    # The length to which the model's authors want its vectors cut, which it was trained for; 0 if
    # they do not state one.
    truncate_dim: int


class CrossEncoder(msgspec.Struct, frozen=True):
    """A transformers model that scores a pair of texts, with one output or by words."""

    # In tokens; 0 if the config does not state it.
    context_length: int
    weights: Weights
    # As in `SentenceEncoder`.
    hidden_size: int


def is_causal_lm_folder(folder: Path) -> bool:
    """Return whether the files of `folder` declare a transformers model that generates text."""
    if _is_there(folder / "modules.json") or not _is_there(folder / "config.json"):
        return False
    try:
        return bool(_architecture(read_object(folder / "config.json"), *GENERATES))
    except (InvalidModelFile, OSError):
        # The folder declares a model, although a broken one.
        return True


def is_openvino_folder(folder: Path) -> bool:
    """Return whether `folder` holds a model in OpenVINO's own format, as hubs carry them."""
    return all(_is_there(folder / name) for name in OPENVINO_FILES)


def read_causal_lm(folder: Path) -> CausalLm:
    """Read and check the folder of a text-generating model.

    Raises:
        InvalidModelFile: the model cannot or must not be loaded, with the reason.
        OSError: a file cannot be read.
    """
    config = read_object(folder / "config.json")
    _refuse_code(config)
    architecture = _architecture(config, *GENERATES)
    if is_openvino_folder(folder):
        weights = file_weights((folder / OPENVINO_FILES[1],))
    else:
        weights = folder_weights(folder)
    return CausalLm(architecture, _context_length(config), weights)


def is_sentence_transformers_folder(folder: Path) -> bool:
    """Return whether the files of `folder` declare a sentence-transformers model."""
    return _is_there(folder / "modules.json") and not is_cross_encoder_folder(folder)


def is_bare_encoder_folder(folder: Path) -> bool:
    """Return whether `folder` declares a transformers encoder without a list of modules."""
    if _is_there(folder / "modules.json") or not _is_there(folder / "config.json"):
        return False
    try:
        return bool(_architecture(read_object(folder / "config.json"), *ENCODES))
    except (InvalidModelFile, OSError):
        return False


def is_cross_encoder_folder(folder: Path) -> bool:
    """Return whether the files of `folder` declare a cross-encoder, in the old or new layout."""
    try:
        if _is_there(folder / "modules.json"):
            kind = _read_if_there(folder / "config_sentence_transformers.json").get("model_type")
            return kind == "CrossEncoder"
        config = _read_if_there(folder / "config.json")
    except (InvalidModelFile, OSError):
        return False
    return bool(_architecture(config, SCORES))


def is_causal_reranker_folder(folder: Path) -> bool:
    """Return whether `folder` holds a reranker that generates text (Qwen3-Reranker).

    Its own config is that of a chat model, so its name decides, also that of a hub's cache.
    """
    if not any("rerank" in part.lower() for part in folder.parts[-NAMED_PARTS:]):
        return False
    try:
        own = _read_if_there(folder / "config_sentence_transformers.json")
        if _is_there(folder / "modules.json") and own.get("model_type") != "CrossEncoder":
            return False
        return bool(_architecture(_read_if_there(folder / "config.json"), *GENERATES))
    except (InvalidModelFile, OSError):
        return False


def read_causal_reranker(folder: Path) -> CrossEncoder:
    """Read and check the folder of a reranker that generates text.

    Raises:
        InvalidModelFile: the model cannot or must not be loaded, with the reason.
        OSError: a file cannot be read.
    """
    config = read_object(folder / "config.json")
    _refuse_code(config)
    if _kind(config) not in RERANKS_BY_WORDS:
        raise InvalidModelFile("it is a reranker of a kind that is not run here")
    return CrossEncoder(_row_length(config), folder_weights(folder), _hidden_size(config))


def read_cross_encoder(folder: Path) -> CrossEncoder:
    """Read and check the folder of a cross-encoder.

    Raises:
        InvalidModelFile: the model cannot or must not be loaded, with the reason.
        OSError: a file cannot be read.
    """
    if _is_there(folder / "modules.json"):
        read_modules(folder)
    config = read_object(folder / "config.json")
    _refuse_code(config)
    if not _architecture(config, SCORES):
        raise InvalidModelFile("it is a reranker of a kind that is not run here")
    labels = config.get("id2label")
    # transformers' default is two labels.
    n_labels = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
    if n_labels != 1:
        raise InvalidModelFile("it sorts texts into classes; a reranker has one output")
    return CrossEncoder(_row_length(config), folder_weights(folder), _hidden_size(config))


def read_sentence_encoder(folder: Path) -> SentenceEncoder:
    """Read and check the folder of a sentence-transformers model.

    Raises:
        InvalidModelFile: the model cannot or must not be loaded, with the reason.
        OSError: a file cannot be read.
    """
    own = _read_if_there(folder / "config_sentence_transformers.json")
    refuse_kind(str(own.get("model_type")))
    is_listed = _is_there(folder / "modules.json")
    modules = read_modules(folder) if is_listed else Modules((), folder)
    config = _read_if_there(modules.transformer / "config.json")
    _refuse_code(config)
    if _is_there(modules.transformer / "adapter_config.json"):
        raise InvalidModelFile("it is an adapter (LoRA): merge it into its model")
    if not is_listed and (kind := _kind(config)) not in READ_TEXT:
        shown = printable(kind[:64])
        raise InvalidModelFile(f"nothing is known of how a model of kind {shown} embeds texts")
    limits = _read_if_there(modules.transformer / "sentence_bert_config.json")
    return SentenceEncoder(
        modules=modules.types,
        module_folders=modules.others,
        context_length=_row_length(config, limits.get("max_seq_length")),
        weights=folder_weights(modules.transformer),
        hidden_size=_hidden_size(config),
        truncate_dim=_positive(own.get("truncate_dim")),
    )


def _refuse_code(config: dict[str, Any]) -> None:
    if "auto_map" in config:
        raise InvalidModelFile("it needs code that comes with it (auto_map), which is never run")


def _architecture(config: dict[str, Any], *endings: str) -> str:
    """Return the first architecture name with one of these endings; empty if there is none."""
    names = config.get("architectures")
    found = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return next((name[:MAX_NAME] for name in found if name.endswith(endings)), "")


def _kind(config: dict[str, Any]) -> str:
    return str(config.get("model_type"))


def _context_length(config: dict[str, Any]) -> int:
    return next((n for key in CONTEXT_KEYS if (n := _positive(config.get(key)))), 0)


def _hidden_size(config: dict[str, Any]) -> int:
    return next((n for key in HIDDEN_KEYS if (n := _positive(config.get(key)))), 0)


def _row_length(config: dict[str, Any], *said: object) -> int:
    """Return the most tokens of one row, by the smallest limit; 0 if no limit is known."""
    n_positions = _context_length(config)
    if _kind(config) in COUNT_FROM_PADDING and n_positions:
        n_positions -= _positive(config.get("pad_token_id", 1)) + 1
    return min((n for n in (n_positions, *map(_positive, said)) if n > 0), default=0)


def _positive(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 1 << 31 else 0


def _is_there(path: Path) -> bool:
    """Return whether the name exists, even if not as a file; reading it then reports that."""
    return os.path.lexists(path)


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_object(path) if _is_there(path) else {}
