"""How large a model is, as the headers of its files say; read once while they stay as they are."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from worker_runtime.model_files.folders import gguf_shards, read_causal_lm
from worker_runtime.model_files.gguf import GgufHeader, read_gguf_header
from worker_runtime.model_files.safetensors import check_safetensors

# ggml types for which `ggml-cpu/repack.cpp` has an order of its own on x86: Q4_0, Q2_K, Q4_K,
# IQ4_NL, MXFP4.
REPACKED_TYPES = frozenset({2, 10, 12, 20, 39})
REPACKED_ROWS = 8
MOST = 1 << 31  # of any number in a header

FileState = tuple[tuple[Path, int, int], ...]


class ModelDims(msgspec.Struct, frozen=True, kw_only=True):
    """
    Args:
        n_ctx_train: 0 if the files do not say.
        hidden, ffn: widths of a layer, and of the widest product within.
        kv_values: keys' and values' numbers of one token, all layers together.
        state_values: what layers without keys and values keep of one sequence.
        n_values: weights in the files.
        n_bytes: of these on disk.
        output_copy_bytes: of the embedding, where llama.cpp keeps another in the processor's order
            for the output layer.
        is_tied: the output layer is the embedding.
    """

    n_ctx_train: int
    n_vocab: int
    hidden: int
    ffn: int
    kv_values: int
    state_values: int = 0
    n_values: int
    n_bytes: int
    output_copy_bytes: int = 0
    is_tied: bool = False

    @property
    def table_values(self) -> int:
        """Of the embedding."""
        return self.n_vocab * self.hidden


def model_dims(path: Path) -> ModelDims:
    """
    Raises:
        InvalidModelFile: a header is not valid.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        files = [path / "config.json", *sorted(path.glob("*.safetensors"))]
        return _of_folder(path, _state(files))
    return _of_files(_state(gguf_shards(path)))


def _state(files: list[Path] | tuple[Path, ...]) -> FileState:
    stats = ((file, file.stat()) for file in files)
    return tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)


@lru_cache(maxsize=64)  # load options ask for the same file a dozen times
def _of_files(state: FileState) -> ModelDims:
    headers = [read_gguf_header(file) for file, _, _ in state]
    main, tensors = headers[0], [tensor for header in headers for tensor in header.tensors]

    def number(name: str, default: int = 0) -> int:
        return _most(main.metadata.get(f"{main.architecture}.{name}"), default)

    hidden = number("embedding_length")
    is_tied = not any(tensor.name == "output.weight" for tensor in tensors)
    return ModelDims(
        n_ctx_train=main.context_length,
        n_vocab=main.vocabulary_size,
        hidden=hidden,
        ffn=number("feed_forward_length", 4 * hidden),
        kv_values=_kv_values(main, number, hidden),
        state_values=number("block_count") * _layer_state(number),
        n_values=sum(math.prod(tensor.shape) for tensor in tensors),
        n_bytes=sum(tensor.size_bytes for tensor in tensors),
        # Rows are looked up in the embedding, which only works in the file's order.
        output_copy_bytes=sum(
            tensor.size_bytes
            for tensor in tensors
            if is_tied
            and tensor.name == "token_embd.weight"
            and tensor.type in REPACKED_TYPES
            and main.vocabulary_size % REPACKED_ROWS == 0
        ),
        is_tied=is_tied,
    )


def _kv_values(header: GgufHeader, number: Callable[..., int], hidden: int) -> int:
    """As `llama_kv_cache` counts them."""
    n_heads = number("attention.head_count", 1)
    heads = header.metadata.get(f"{header.architecture}.attention.head_count_kv", n_heads)
    per_layer = heads if isinstance(heads, list) else [heads] * number("block_count")
    n_kv_heads = sum(_most(n, 0) for n in per_layer)
    head = hidden // max(n_heads, 1)
    width: int = number("attention.key_length", head)
    # Latent attention makes its values of the keys.
    is_latent = number("attention.key_length_mla") > 0
    return n_kv_heads * (width if is_latent else width + number("attention.value_length", head))


def _layer_state(number: Callable[..., int]) -> int:
    """As `llama_memory_recurrent` counts it: a convolution's last inputs, and the state itself."""
    inner, state = number("ssm.inner_size"), number("ssm.state_size")
    inputs = inner + 2 * number("ssm.group_count") * state
    return max(number("ssm.conv_kernel") - 1, 0) * inputs + inner * state


@lru_cache(maxsize=64)
def _of_folder(path: Path, state: FileState) -> ModelDims:
    config = _config(path)
    files = [check_safetensors(file) for file, _, _ in state[1:]]

    def number(name: str, default: int = 0) -> int:
        return _most(config.get(name), default)

    hidden, n_heads = number("hidden_size"), number("num_attention_heads", 1)
    head = number("head_dim", hidden // max(n_heads, 1))
    n_kv_heads = number("num_key_value_heads", n_heads)
    return ModelDims(
        n_ctx_train=read_causal_lm(path).context_length,
        n_vocab=number("vocab_size"),
        hidden=hidden,
        ffn=number("intermediate_size", 4 * hidden),
        kv_values=number("num_hidden_layers") * n_kv_heads * 2 * head,
        n_values=sum(math.prod(t.shape) for file in files for t in file.tensors.values()),
        n_bytes=sum(file.data_bytes for file in files),
        is_tied=not any("lm_head.weight" in file.tensors for file in files),
    )


def _config(path: Path) -> Mapping[str, Any]:
    config = msgspec.json.decode((path / "config.json").read_bytes(), type=dict[str, Any])
    inner = config.get("text_config")
    return config | inner if isinstance(inner, dict) else config


def _most(value: object, default: int) -> int:
    """A number that may be given layer by layer, then the largest."""
    numbers = value if isinstance(value, list) else [value]
    known = [n for n in numbers if isinstance(n, int) and 0 <= n < MOST]
    return max(known, default=default)
