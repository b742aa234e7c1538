"""Reads from its files what the catalogue must know of an embedding model before it is loaded."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from embed_worker.facts import facts_of_gguf, facts_of_weights
from embed_worker.pipe_messages import MAX_LLAMA_TOKENS
from worker_runtime.catalog import ModelFacts
from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folder_listing import list_folder
from worker_runtime.model_files.folders import (
    SentenceEncoder,
    is_causal_reranker_folder,
    is_cross_encoder_folder,
    read_causal_reranker,
    read_cross_encoder,
    read_sentence_encoder,
)
from worker_runtime.model_files.gguf import read_gguf_headers
from worker_runtime.model_files.gguf_files import gguf_shards
from worker_runtime.model_files.odd_paths import printable
from worker_runtime.model_files.safetensors import check_safetensors
from worker_runtime.model_files.static_folders import is_static_folder, read_static
from worker_runtime.model_files.weights import PICKLED, file_weights

# The kinds of pooling that a GGUF file may state: mean, first or last token; and a pair's score.
POOLING_TYPES, RANKING = (1, 2, 3), 4


class Said(msgspec.Struct, frozen=True):
    """What the files of a model state.

    Args:
        context_length: in tokens; 0 if the files do not state it.
        size_bytes: the size of the weights.
        n_numbers: the count of numbers in the weights of a folder; 0 for a GGUF file.
        hidden_size: the count of numbers per token between layers of a folder's model; 0 if the
            files do not state it.
        truncate_dim: the length to which the model's authors want vectors cut; 0 if they want none.
        ranks: a GGUF file that scores pairs of texts.
        lacks_pooling: a GGUF file does not state how the vectors of its tokens become one.
        broken: why the model cannot be loaded; empty if it can.
        facts: what else the files state, for people and other programs.
    """

    context_length: int = 0
    size_bytes: int = 0
    n_numbers: int = 0
    hidden_size: int = 0
    truncate_dim: int = 0
    ranks: bool = False
    lacks_pooling: bool = False
    broken: str = ""
    facts: ModelFacts = ModelFacts()


def read(model: Path) -> Said:
    """Read the headers of the model at `model`.

    Raises:
        InvalidModelFile: it cannot or must not be loaded; the error states the reason.
        OSError: a file cannot be read.
    """
    if not os.path.isdir(model):
        return _of_gguf(model)
    if is_static_folder(model):
        static = read_static(model)
        return Said(
            context_length=static.max_tokens,
            size_bytes=static.weights.size_bytes,
            n_numbers=static.weights.n_numbers,
            truncate_dim=static.truncate_dim,
        )
    if is_causal_reranker_folder(model):
        causal = read_causal_reranker(model)
        return Said(
            context_length=causal.context_length,
            size_bytes=causal.weights.size_bytes,
            n_numbers=causal.weights.n_numbers,
            hidden_size=causal.hidden_size,
            facts=facts_of_weights(causal.weights, causal.hidden_size, causal.context_length),
        )
    if is_cross_encoder_folder(model):
        found = read_cross_encoder(model)
        return Said(
            context_length=found.context_length,
            size_bytes=found.weights.size_bytes,
            n_numbers=found.weights.n_numbers,
            hidden_size=found.hidden_size,
            facts=facts_of_weights(found.weights, found.hidden_size, found.context_length),
        )
    return _of_folder(model)


def _of_folder(folder: Path) -> Said:
    found = read_sentence_encoder(folder)
    beside = tuple(_weights_of_modules(folder, found))
    n_numbers = sum(check_safetensors(path).n_numbers for path in beside)
    return Said(
        context_length=found.context_length,
        size_bytes=found.weights.size_bytes + file_weights(beside).size_bytes,
        n_numbers=found.weights.n_numbers + n_numbers,
        hidden_size=found.hidden_size,
        truncate_dim=found.truncate_dim,
        facts=facts_of_weights(found.weights, found.hidden_size, found.context_length),
    )


def _weights_of_modules(folder: Path, found: SentenceEncoder) -> Iterator[Path]:
    """Yield the weight files of all modules but the transformer, even in folders not listed.

    Raises:
        InvalidModelFile: a module has pickled weights.
    """
    named = {entry.path for entry in list_folder(folder) if entry.is_folder and "_" in entry.name}
    transformers = {file.parent for file in found.weights.files}
    for module in sorted({*named, *found.module_folders} - transformers):
        within = list_folder(module).entries
        if "model.safetensors" in within:
            yield within["model.safetensors"].path
        elif any(name.endswith(PICKLED) for name in within):
            raise InvalidModelFile(f"{printable(module.name)} has pickled weights: convert them")


def _of_gguf(first: Path) -> Said:
    shards = gguf_shards(first)
    n_numbers, header = 0, None
    for each in read_gguf_headers(shards):
        n_numbers += sum(math.prod(tensor.shape) for tensor in each.tensors)
        header = header or msgspec.structs.replace(each, tensors=[])
    assert header is not None, "a model has one file at least"
    return Said(
        context_length=min(header.context_length, MAX_LLAMA_TOKENS),
        size_bytes=file_weights(shards).size_bytes,
        ranks=header.pooling_type == RANKING,
        lacks_pooling=header.pooling_type not in (*POOLING_TYPES, RANKING),
        facts=facts_of_gguf(header, n_numbers),
    )
