"""Folders with static embeddings: one vector for each token of the vocabulary, and no network.

model2vec writes them (`"model_type": "model2vec"` in config.json), and sentence-transformers
(the module StaticEmbedding).
"""

import os
from pathlib import Path
from typing import Any

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.module_folders import read_modules
from worker_runtime.model_files.small_json import read_json, read_object
from worker_runtime.model_files.weights import Weights, folder_weights

STATIC, NORMALIZE = "StaticEmbedding", "Normalize"
TOKENIZER = "tokenizer.json"
# As model2vec cuts texts where the model's configuration does not say it.
MODEL2VEC_TOKENS = 512


class StaticEmbeddings(msgspec.Struct, frozen=True):
    """Where the table is, and how vectors are made of its rows.

    Args:
        is_normalized: vectors have unit length.
        skips_unknown: the tokenizer's token for unknown words is left out.
        max_tokens: the most tokens of a text; 0 if there is no limit.
        truncate_dim: the length to which the model's authors want vectors cut; 0: none.
        prompts: the model's own prompts, by name.
    """

    weights: Weights
    tokenizer: Path
    is_normalized: bool
    skips_unknown: bool = False
    max_tokens: int = 0
    truncate_dim: int = 0
    prompts: dict[str, str] = {}
    default_prompt_name: str = ""


def is_static_folder(folder: Path) -> bool:
    """Return whether the files of `folder` declare static embeddings."""
    try:
        if os.path.lexists(folder / "modules.json"):
            first, *_ = read_json(folder / "modules.json")
            return str(first.get("type")).endswith(f".{STATIC}")
        return _config(folder).get("model_type") == "model2vec"
    except (InvalidModelFile, OSError, AttributeError, TypeError, ValueError):
        return False


def read_static(folder: Path) -> StaticEmbeddings:
    """Read and check a folder with static embeddings.

    Raises:
        InvalidModelFile: the model cannot be loaded, with the reason.
        OSError: a file cannot be read.
    """
    if not os.path.lexists(folder / "modules.json"):
        config = _config(folder)
        return StaticEmbeddings(
            weights=folder_weights(folder),
            tokenizer=_tokenizer(folder),
            is_normalized=bool(config.get("normalize")),
            skips_unknown=True,
            max_tokens=_count(config.get("max_length")) or MODEL2VEC_TOKENS,
        )
    modules = read_modules(folder)
    kinds = [name.rpartition(".")[2] for name in modules.types]
    if unknown := [name for name in kinds[1:] if name != NORMALIZE]:
        raise InvalidModelFile(
            f"its static embeddings go through {unknown[0][:64]}, not known here"
        )
    own = _read_if_there(folder / "config_sentence_transformers.json")
    prompts = own.get("prompts")
    named = prompts.items() if isinstance(prompts, dict) else ()
    return StaticEmbeddings(
        weights=folder_weights(modules.transformer),
        tokenizer=_tokenizer(modules.transformer),
        is_normalized=NORMALIZE in kinds,
        truncate_dim=_count(own.get("truncate_dim")),
        prompts={str(name): text for name, text in named if isinstance(text, str)},
        default_prompt_name=str(own.get("default_prompt_name") or ""),
    )


def _tokenizer(folder: Path) -> Path:
    if not os.path.lexists(folder / TOKENIZER):
        raise InvalidModelFile(f"the file {TOKENIZER} is missing")
    return folder / TOKENIZER


def _config(folder: Path) -> dict[str, Any]:
    return _read_if_there(folder / "config.json")


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_object(path) if os.path.lexists(path) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 1 << 31 else 0
