"""What a chat model takes in memory, computed from its files' headers before it is loaded.

For llama.cpp: the file stays mapped; matrices of some types are kept a second time, in the order
that the CPU multiplies them in; the KV cache is `llama_kv_cache`'s (all layers have all cells, as
`swa_full` is on). For transformers: `torch` weights in their dtype, packed for oneDNN, and what the
slots hold. Constants were measured; `run.py bench estimate` shows how far they are off.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chat_worker.backends.sizes import context_tokens, n_cells
from chat_worker.messages import LoadSpec
from worker_runtime.gguf_header import GgufHeader, read_gguf_header
from worker_runtime.memory.need import Need
from worker_runtime.model_folders import gguf_shards, read_causal_lm
from worker_runtime.safetensors_header import check_safetensors

MIB = 1 << 20
# Interpreter and libraries with nothing loaded, measured on Linux x86-64.
LLAMA_PROCESS_BYTES = 64 * MIB
TORCH_PROCESS_BYTES = 420 * MIB
# Of a vocabulary in memory: texts, scores, and the table from text to id.
TOKEN_BYTES = 140
# ggml types that `ggml-cpu/repack.cpp` knows an own order for: Q4_0, Q2_K, Q4_K, IQ4_NL.
REPACKED_TYPES = frozenset({2, 10, 12, 20})
REPACKED_ROWS = 8
# Rows are looked up in it, which only works in the file's order.
NOT_REPACKED = frozenset({"token_embd.weight"})
# Bytes of one cached number.
KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Of one weight, scales included (bitsandbytes: nf4 in blocks of 64, int8 by row).
QUANTIZED_BYTES = {"4bit": 0.57, "8bit": 1.02}
# Tokens of one step as the scheduler chooses them on slow machines, for activations.
STEP_TOKENS = 512


def need(spec: LoadSpec) -> Need:
    """What loading `spec` takes.

    Raises:
        InvalidModelFile: a header is not valid.
        OSError: a file cannot be read.
    """
    path = Path(spec.path)
    return _of_folder(spec, path) if path.is_dir() else _of_gguf(spec, path)


def _of_gguf(spec: LoadSpec, first: Path) -> Need:
    headers = [read_gguf_header(shard) for shard in gguf_shards(first)]
    main = headers[0]
    shape = _Shape.of_gguf(main)
    cells = n_cells(spec, context_tokens(spec, main.context_length))
    return Need(
        mapped_weights=sum(header.weight_bytes for header in headers),
        weights=sum(map(_repacked_bytes, headers)),
        kv=int(cells * shape.kv_values * KV_BYTES[spec.kv_type]),
        compute=_compute_bytes(shape, spec, main.vocabulary_size),
        process=LLAMA_PROCESS_BYTES + TOKEN_BYTES * main.vocabulary_size,
    )


def _repacked_bytes(header: GgufHeader) -> int:
    return sum(
        tensor.size_bytes
        for tensor in header.tensors
        if tensor.type in REPACKED_TYPES
        and tensor.name not in NOT_REPACKED
        and len(tensor.shape) > 1
        and tensor.shape[1] % REPACKED_ROWS == 0
    )


def _compute_bytes(shape: "_Shape", spec: LoadSpec, n_vocab: int) -> int:
    """Activations of one micro-batch, the widest layer twice, and one row of logits a sequence."""
    values = spec.n_ubatch * (2 * shape.ffn + 6 * shape.hidden) + spec.n_parallel * n_vocab
    return 4 * values


def _of_folder(spec: LoadSpec, path: Path) -> Need:
    folder = read_causal_lm(path)
    config = _config(path)
    shape = _Shape.of_config(config)
    files = [check_safetensors(file) for file in sorted(path.glob("*.safetensors"))]
    n_values = sum(math.prod(t.shape) for file in files for t in file.tensors.values())
    stored = sum(file.data_bytes for file in files)
    n_bytes = DTYPE_BYTES.get(spec.torch_dtype, stored / n_values if n_values else 2)
    n_vocab = int(config.get("vocab_size", 0))
    # Packed for the processor, an output layer that is the embedding too becomes its own.
    tied = n_vocab * shape.hidden if config.get("tie_word_embeddings", True) else 0
    if spec.quantization == "none":
        weights = int((n_values + tied) * n_bytes)
    else:
        table = n_vocab * shape.hidden
        weights = int(table * n_bytes + (n_values - table) * QUANTIZED_BYTES[spec.quantization])
    n_ctx = context_tokens(spec, folder.context_length)
    step = STEP_TOKENS * (2 * shape.ffn + 6 * shape.hidden) + spec.n_parallel * n_vocab
    return Need(
        weights=weights,
        kv=int(n_cells(spec, n_ctx) * shape.kv_values * n_bytes),
        compute=4 * step,
        process=TORCH_PROCESS_BYTES + TOKEN_BYTES * n_vocab,
        loading=stored,
    )


class _Shape(msgspec.Struct, frozen=True):
    """Args:
    hidden, ffn: widths of a layer, and of the widest product within.
    kv_values: keys' and values' numbers of one token, all layers together.
    """

    hidden: int
    ffn: int
    kv_values: int

    @classmethod
    def of_gguf(cls, header: GgufHeader) -> "_Shape":
        def number(name: str, default: int = 0) -> int:
            return _most(header.metadata.get(f"{header.architecture}.{name}"), default)

        hidden, n_heads = number("embedding_length"), number("attention.head_count", 1)
        n_layers = number("block_count")
        heads = header.metadata.get(f"{header.architecture}.attention.head_count_kv", n_heads)
        n_kv_heads = sum(heads) if isinstance(heads, list) else n_layers * _most(heads, n_heads)
        head = hidden // max(n_heads, 1)
        width = number("attention.key_length", head) + number("attention.value_length", head)
        return cls(hidden, number("feed_forward_length", 4 * hidden), n_kv_heads * width)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "_Shape":
        def number(name: str, default: int = 0) -> int:
            return _most(config.get(name), default)

        hidden, n_heads = number("hidden_size"), number("num_attention_heads", 1)
        head = number("head_dim", hidden // max(n_heads, 1))
        n_kv_heads = number("num_key_value_heads", n_heads)
        layers = number("num_hidden_layers")
        ffn = number("intermediate_size", 4 * hidden)
        return cls(hidden, ffn, layers * n_kv_heads * 2 * head)


def _most(value: object, default: int) -> int:
    """A number that may be given layer by layer, then the largest."""
    numbers = value if isinstance(value, list) else [value]
    known = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool)]
    return max(known, default=default)


def _config(path: Path) -> dict[str, Any]:
    config = msgspec.json.decode((path / "config.json").read_bytes(), type=dict[str, Any])
    inner = config.get("text_config")
    return config | inner if isinstance(inner, dict) else config
