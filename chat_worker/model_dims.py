"""The dimensions of a chat model, from the headers of its files.

Headers are cached while their files do not change. Every value is bounded before it is used in a
calculation, because anybody may have written the file.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folder_listing import list_folder
from worker_runtime.model_files.folders import is_openvino_folder, read_causal_lm
from worker_runtime.model_files.gguf import GgufHeader, GgufTensor, read_gguf_headers
from worker_runtime.model_files.gguf_files import gguf_shards
from worker_runtime.model_files.safetensors import check_safetensors
from worker_runtime.model_files.small_json import read_object

# The ggml types that `ggml-cpu/repack.cpp` stores in a layout of its own on x86: Q4_0, Q2_K, Q4_K,
# IQ4_NL, MXFP4.
REPACKED_TYPES = frozenset({2, 10, 12, 20, 39})
REPACKED_ROWS = 8
# The largest value allowed in a header, and the largest for the cache of a token or the state of a
# sequence; real models have a thousandth of it. Its product with the longest context fits 64 bits.
MOST = 1 << 24
MOST_CACHED_VALUES = 1 << 30

FileState = tuple[tuple[Path, int, int], ...]


class ModelDims(msgspec.Struct, frozen=True, kw_only=True):
    """How large a model is.

    Args:
        n_ctx_train: context length in tokens; 0 if the files do not state it.
        hidden, ffn: the width of a layer, and of the widest matrix product in it.
        n_heads: of queries, in the layer that has the most.
        kv_values: the keys and values of one token, as a count over all layers.
        state_values: the size of the state of one sequence, in layers without keys and values.
        n_values: the count of weights in the files.
        n_bytes: the size of these weights on disk.
        output_copy_bytes: the size of the second copy of the embedding that llama.cpp stores in the
            processor's layout for the output layer; 0 if it makes none.
        is_tied: the output layer uses the embedding's weights.
    """

    n_ctx_train: int
    n_vocab: int
    hidden: int
    ffn: int
    n_heads: int
    kv_values: int
    state_values: int = 0
    n_values: int
    n_bytes: int
    output_copy_bytes: int = 0
    is_tied: bool = False

    @property
    def table_values(self) -> int:
        """The count of weights in the embedding."""
        return self.n_vocab * self.hidden


def model_dims(path: Path) -> ModelDims:
    """Return the dimensions of the model at `path`.

    Raises:
        InvalidModelFile: a header is not valid.
        OSError: a file cannot be read.
    """
    if os.path.isdir(path):
        files = [entry.path for entry in list_folder(path) if entry.is_file]
        return _of_folder(path, _state(files))
    return _of_files(_state(gguf_shards(path)))


def shape_of_headers(headers: Iterable[GgufHeader]) -> tuple[GgufHeader, ModelDims]:
    """Return the first header of a GGUF model, and the dimensions of all its files together.

    Only one header is in memory at a time.

    Raises:
        InvalidModelFile: a header states impossible values.
    """
    files = iter(headers)
    main = next(files)
    totals = _Totals()
    totals.add(main.tensors)
    for header in files:
        totals.add(header.tensors)

    def number(name: str, default: int = 0) -> int:
        return _most(name, main.metadata.get(f"{main.architecture}.{name}"), default)

    hidden = number("embedding_length")
    # Looking rows up in the embedding works only with the layout of the file.
    is_copied = totals.is_tied and main.vocabulary_size % REPACKED_ROWS == 0
    return main, ModelDims(
        n_ctx_train=main.context_length,
        n_vocab=main.vocabulary_size,
        hidden=hidden,
        ffn=number("feed_forward_length", 4 * hidden),
        n_heads=number("attention.head_count", 1),
        kv_values=_cached("tokens", _kv_values(main, number, hidden)),
        state_values=_cached("sequences", number("block_count") * _layer_state(number)),
        n_values=totals.n_values,
        n_bytes=totals.n_bytes,
        output_copy_bytes=totals.repacked_embedding_bytes if is_copied else 0,
        is_tied=totals.is_tied,
    )


class _Totals:
    """Sums over all tensors of a model."""

    def __init__(self) -> None:
        self.n_values = 0
        self.n_bytes = 0
        self.repacked_embedding_bytes = 0
        self.is_tied = True

    def add(self, tensors: list[GgufTensor]) -> None:
        for tensor in tensors:
            self.n_values += math.prod(tensor.shape)
            self.n_bytes += tensor.size_bytes
            if tensor.name == "output.weight":
                self.is_tied = False
            elif tensor.name == "token_embd.weight" and tensor.type in REPACKED_TYPES:
                self.repacked_embedding_bytes += tensor.size_bytes


def _state(files: Iterable[Path]) -> FileState:
    stats = ((file, file.stat()) for file in files)
    return tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)


@lru_cache(maxsize=64)  # the load options read the same file a dozen times
def _of_files(state: FileState) -> ModelDims:
    return shape_of_headers(read_gguf_headers(tuple(file for file, _, _ in state)))[1]


def _kv_values(header: GgufHeader, number: Callable[..., int], hidden: int) -> int:
    """Return the size of the keys and values of one token, as `llama_kv_cache` counts them."""
    n_heads = number("attention.head_count", 1)
    name = "attention.head_count_kv"
    heads = header.metadata.get(f"{header.architecture}.{name}", n_heads)
    if isinstance(heads, list):
        n_kv_heads = sum(_most(name, n, 0) for n in heads)
    else:
        n_kv_heads = _most(name, heads, 0) * number("block_count")
    head = hidden // max(n_heads, 1)
    width: int = number("attention.key_length", head)
    # Latent attention computes the values from the keys.
    is_latent = number("attention.key_length_mla") > 0
    return n_kv_heads * (width if is_latent else width + number("attention.value_length", head))


def _layer_state(number: Callable[..., int]) -> int:
    """Return the size of a layer's state, as `llama_memory_recurrent` counts it.

    The state consists of the last inputs of the convolution and the recurrent state.
    """
    inner, state = number("ssm.inner_size"), number("ssm.state_size")
    inputs = inner + 2 * number("ssm.group_count") * state
    return max(number("ssm.conv_kernel") - 1, 0) * inputs + inner * state


@lru_cache(maxsize=64)
def _of_folder(path: Path, state: FileState) -> ModelDims:
    found = read_causal_lm(path)
    config = _config(path)
    n_values, n_bytes, is_tied = 0, 0, True
    if is_openvino_folder(path):
        n_bytes = found.weights.size_bytes
    for file in () if n_bytes else found.weights.files:
        header = check_safetensors(file)
        n_values += sum(math.prod(tensor.shape) for tensor in header.tensors.values())
        n_bytes += header.data_bytes
        is_tied = is_tied and "lm_head.weight" not in header.tensors

    def number(name: str, default: int = 0) -> int:
        return _most(name, config.get(name), default)

    hidden, n_heads = number("hidden_size"), number("num_attention_heads", 1)
    head = number("head_dim", hidden // max(n_heads, 1))
    n_kv_heads = number("num_key_value_heads", n_heads)
    return ModelDims(
        n_ctx_train=found.context_length,
        n_vocab=number("vocab_size"),
        hidden=hidden,
        ffn=number("intermediate_size", 4 * hidden),
        n_heads=n_heads,
        kv_values=_cached("tokens", number("num_hidden_layers") * n_kv_heads * 2 * head),
        n_values=n_values,
        n_bytes=n_bytes,
        is_tied=is_tied,
    )


def _config(path: Path) -> Mapping[str, Any]:
    config = read_object(path / "config.json")
    inner = config.get("text_config")
    return config | inner if isinstance(inner, dict) else config


def _most(name: str, value: object, default: int) -> int:
    """Return a value of a header, or the largest if the header states one for each layer.

    Raises:
        InvalidModelFile: the value is larger than `MOST`.
    """
    numbers = value if isinstance(value, list) else [value]
    known = [n for n in numbers if isinstance(n, int) and n >= 0]
    most = max(known, default=default)
    if most > MOST:
        raise InvalidModelFile(f"it claims a {name} of {min(most, 1 << 64)}")
    return most


def _cached(whose: str, n_values: int) -> int:
    if n_values > MOST_CACHED_VALUES:
        raise InvalidModelFile(f"it claims that {whose} keep {n_values} numbers each")
    return n_values
