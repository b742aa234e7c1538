"""What a chat model's files state about it for people and other programs: size, kind, abilities."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from chat_worker.model_dims import ModelDims
from chat_worker.text.infill import FAMILIES, spellings_among
from chat_worker.text.reasoning import thinking_marks
from worker_runtime.catalog import ModelFacts
from worker_runtime.model_files.config_facts import (
    MAX_NAME,
    MOST_PARAMETERS,
    config_facts,
    read_if_valid,
)
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import open_regular, read_at_most
from worker_runtime.model_files.gguf import GgufHeader
from worker_runtime.model_files.header_bytes import LENGTH
from worker_runtime.model_files.odd_paths import printable

MAX_TEMPLATE_BYTES = 1024 * 1024


def facts_of_gguf(first: Path, header: GgufHeader, dims: ModelDims) -> ModelFacts:
    """
    Args:
        header: of the file `first`, which holds the vocabulary.
    Raises:
        OSError: the file cannot be read.
    """
    return ModelFacts(
        format="gguf",
        family=printable(header.architecture[:MAX_NAME]),
        n_parameters=min(dims.n_values, MOST_PARAMETERS),
        quantization=header.quantization,
        embedding_length=dims.hidden,
        trained_context=dims.n_ctx_train,
        abilities=_abilities(header.chat_template, can_infill=_can_infill(first, header)),
    )


def facts_of_folder(folder: Path, dims: ModelDims) -> ModelFacts:
    """
    Raises:
        InvalidModelFile: a file is not valid.
        OSError: a file cannot be read.
    """
    config = config_facts(folder)
    tokenizer = read_if_valid(folder / "tokenizer_config.json")
    added = tokenizer.get("added_tokens_decoder")
    texts = [*_contents(added)] if isinstance(added, dict) else []
    return ModelFacts(
        format="safetensors",
        family=config.family,
        n_parameters=min(dims.n_values, MOST_PARAMETERS),
        quantization=config.precision,
        embedding_length=dims.hidden,
        trained_context=dims.n_ctx_train,
        abilities=_abilities(
            _template(folder, tokenizer), can_infill=spellings_among(texts) is not None
        ),
    )


def with_template(facts: ModelFacts, template: str) -> ModelFacts:
    """The facts of the same model with this chat template."""
    can_infill = "insert" in facts.abilities
    return replace(facts, abilities=_abilities(template, can_infill=can_infill))


def _abilities(template: str, *, can_infill: bool) -> tuple[str, ...]:
    # Tools are described in text to a model whose template does not show them.
    thinks = ("thinking",) if thinking_marks(template) is not None else ()
    return ("tools", *thinks, *(("insert",) if can_infill else ()))


def _can_infill(first: Path, header: GgufHeader) -> bool:
    """Whether the vocabulary has the tokens, as the metadata says or as they are spelled."""
    metadata = header.metadata
    for names in (("fim_pre", "fim_suf", "fim_mid"), ("prefix", "suffix", "middle")):
        if all(f"tokenizer.ggml.{name}_token_id" in metadata for name in names):
            return True
    begin, end = header.vocabulary_at
    file, _ = open_regular(first)
    with file:
        file.seek(begin)
        vocabulary = file.read(end - begin)
    return any(
        all(_entry(text) in vocabulary for text in (family.prefix, family.suffix, family.middle))
        for family in FAMILIES
    )


def _entry(text: str) -> bytes:
    """A text as it stands in a GGUF file, after its length."""
    encoded = text.encode()
    return LENGTH.pack(len(encoded)) + encoded


def _template(folder: Path, tokenizer: dict[str, Any]) -> str:
    try:
        return read_at_most(folder / "chat_template.jinja", MAX_TEMPLATE_BYTES).decode(
            "utf-8", "replace"
        )
    except (InvalidModelFile, FileNotFoundError):
        template = tokenizer.get("chat_template")
        return template if isinstance(template, str) else ""


def _contents(added: dict[str, Any]) -> Iterator[str]:
    for token in added.values():
        content = token.get("content") if isinstance(token, dict) else None
        if isinstance(content, str):
            yield content
