"""What the catalogue needs to know of a chat model before it is loaded, read from its files."""

import os
import re
from pathlib import Path

import msgspec

from chat_worker.facts import facts_of_folder, facts_of_gguf
from chat_worker.family import Family, family_of_folder, family_of_gguf
from chat_worker.model_dims import model_dims, shape_of_headers
from worker_runtime.catalog import ModelFacts
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.gguf import GgufHeader, read_gguf_headers
from worker_runtime.model_files.gguf_files import gguf_id, gguf_shards

# Architectures in GGUF files that do not chat: encoders, projectors of vision models, speech.
OTHER_ARCHITECTURES = re.compile(r"bert|clip|t5encoder|embedding|wavtokenizer|dream|llada", re.I)
Q8_BLOCK = 32


class Said(msgspec.Struct, frozen=True):
    """What the files of a model state.

    Args:
        context_length: in tokens; 0 if the files do not state it.
        broken: why the model cannot be loaded; else empty.
        embeds: whether a GGUF file states how the vectors of its tokens become one.
        facts: what else the files state, for people and other programs.
    """

    is_chat: bool
    context_length: int = 0
    family: Family = Family()
    takes_q8_cache: bool = False
    broken: str = ""
    embeds: bool = False
    facts: ModelFacts = ModelFacts()


def broken(reason: str) -> Said:
    return Said(is_chat=True, broken=reason)


def read(path: Path) -> Said:
    """Read the headers of the model at `path`.

    Raises:
        InvalidModelFile: it cannot or must not be loaded; the error states the reason.
        OSError: a file cannot be read.
    """
    return _of_folder(path) if os.path.isdir(path) else _of_gguf(path)


def _of_folder(folder: Path) -> Said:
    dims = model_dims(folder)
    facts = facts_of_folder(folder, dims)
    return Said(True, dims.n_ctx_train, family_of_folder(folder.name), facts=facts)


def _of_gguf(first: Path) -> Said:
    main, dims = shape_of_headers(read_gguf_headers(gguf_shards(first)))
    if main.metadata.get("general.type") == "adapter":
        raise InvalidModelFile(
            "it is an adapter (LoRA): name it as lora of its model in models.toml, or merge it"
        )
    if main.vocabulary_size and not dims.n_values:
        raise InvalidModelFile("it holds a vocabulary, and no weights")
    return Said(
        not OTHER_ARCHITECTURES.search(main.architecture) and main.vocabulary_size > 0,
        main.context_length,
        family_of_gguf(gguf_id(first), main),
        takes_q8_cache(main),
        embeds=main.pooling_type > 0,
        facts=facts_of_gguf(first, main, dims),
    )


def takes_q8_cache(header: GgufHeader) -> bool:
    """Whether an 8-bit cache is possible: llama.cpp stores it in blocks of 32 values per head."""

    def number(key: str) -> int:
        value = header.metadata.get(f"{header.architecture}.{key}")
        return value if isinstance(value, int) else 0

    usual = number("embedding_length") // max(number("attention.head_count"), 1)
    lengths = [number(f"attention.{part}_length") or usual for part in ("key", "value")]
    return all(length and length % Q8_BLOCK == 0 for length in lengths)
