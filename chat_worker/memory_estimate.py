"""The memory that a chat model needs, computed from its files' headers before it is loaded.

For llama.cpp: the weights as they are in the file, and the KV cache as `llama_kv_cache` allocates
it (all cells in all layers, because `swa_full` is on). For transformers: the weights in the dtype
of the computation, packed for oneDNN, and the keys and values in the slots. The constants were
measured; `run.py bench estimate` shows how exact the estimate is.
"""

from msgspec.structs import replace

from chat_worker.backends.sizes import (
    BLOCK_TOKENS,
    context_tokens,
    in_one_pool,
    n_blocks,
    n_cells,
    n_paged_slots,
    step_tokens,
)
from chat_worker.conversions import known_conversion, weight_bits
from chat_worker.model_dims import ModelDims, model_dims
from chat_worker.pipe_messages import LoadSpec
from common.sizes import MIB
from worker_runtime.memory.need import Need
from worker_runtime.model_files.folders import is_openvino_folder
from worker_runtime.model_files.odd_paths import path_of

# The interpreter and the libraries without a model, measured on Linux x86-64.
LLAMA_PROCESS_BYTES = 66 * MIB
TORCH_PROCESS_BYTES = 420 * MIB
OPENVINO_PROCESS_BYTES = 120 * MIB
# The code that OpenVINO generates for numbers of tokens, of which it keeps many.
OPENVINO_KERNEL_BYTES = 48 * MIB
# The process that converts: its libraries, and for each weight of a folder its value in float32.
CONVERTER_BYTES = 600 * MIB
CONVERTER_VALUE_BYTES = 5
# That of a GGUF file: first llama.cpp's weights, then the new ones, as made and as repacked.
GGUF_CONVERTER_BYTES = 300 * MIB
GGUF_CONVERTER_COPIES = 2
# Memory of one vocabulary entry: its text, its score, and the table from texts to ids.
TOKEN_BYTES = 140
OPENVINO_TOKEN_BYTES = 384  # tokenizers' own form of it
# Bytes of one cached value.
KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
EXACT_KV_BYTES = 4.0
GROUPED_BYTES = 0.5 + 2 / 32  # a weight of 4 bits, and its part of a scale
# Slots besides the running ones: llama.cpp allocates a row of logits for each.
SPARE_SLOTS = 4
# The attention mask: bytes for each token of a micro-batch and each position.
MASK_BYTES = 2
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Bytes of one weight, scales included (bitsandbytes: nf4 in blocks of 64, int8 by row).
QUANTIZED_BYTES = {"4bit": 0.57, "8bit": 1.02}
# Tokens of one step, for the activations: what the scheduler chooses on slow machines.
STEP_TOKENS = 512


def memory_need(spec: LoadSpec) -> Need:
    """The memory that loading `spec` needs.

    Raises:
        InvalidModelFile: a header is not valid.
        OSError: a file cannot be read.
    """
    path = path_of(spec.path)
    dims = model_dims(path)
    if spec.backend == "openvino":
        return _in_openvino(spec, dims)
    if path.is_dir():
        return _in_torch(spec, dims)
    need = need_of_gguf(spec, dims)
    return (
        replace(need, weights=need.weights + path_of(spec.lora).stat().st_size)
        if spec.lora
        else need
    )


def need_of_gguf(spec: LoadSpec, dims: ModelDims) -> Need:
    """The memory that a GGUF model of these dimensions needs, wherever its file is."""
    n_ctx = context_tokens(spec, dims.n_ctx_train)
    cells = n_cells(spec, n_ctx)
    activations = 4 * (2 * dims.ffn + 3 * dims.hidden) + MASK_BYTES * cells
    if not spec.flash_attention and spec.kv_type != "q8_0":
        # A token's attention scores in one layer: for each head and cell in 32 bits.
        shares = dims.state_values > 0 or in_one_pool(spec.n_parallel, n_ctx, cells)
        activations += 4 * dims.n_heads * (cells if shares else cells // spec.n_parallel)
    logits = 4 * (spec.n_parallel + SPARE_SLOTS) * dims.n_vocab
    # Each slot, not each cell, has a state, always in 32 bits.
    states = 4 * spec.n_parallel * dims.state_values
    return Need(
        weights=dims.n_bytes + dims.output_copy_bytes,
        kv=int(cells * dims.kv_values * KV_BYTES[spec.kv_type]) + states,
        compute=min(spec.n_ubatch, spec.n_batch, cells) * activations + logits,
        process=LLAMA_PROCESS_BYTES + TOKEN_BYTES * dims.n_vocab,
    )


def _in_openvino(spec: LoadSpec, dims: ModelDims) -> Need:
    cells = n_cells(spec, context_tokens(spec, dims.n_ctx_train))
    exact = spec.precision == "f32"
    if is_openvino_folder(path_of(spec.path)):
        weights, converting = dims.n_bytes, 0
    else:
        file_bytes = _converted_bytes(spec, dims)
        weights = file_bytes - _unread_bytes(spec, dims)
        whole = 0 if known_conversion(spec) is not None else _converting(spec, dims, file_bytes)
        # Its weights are not loaded yet while it is converted.
        converting = max(whole - weights, 0)
    n_paged = n_blocks(cells, n_paged_slots(spec.n_parallel)) * BLOCK_TOKENS
    value_bytes = EXACT_KV_BYTES if exact and spec.kv_type == "f16" else KV_BYTES[spec.kv_type]
    activations = step_tokens(spec) * (3 * dims.ffn + 8 * dims.hidden)
    rows = (spec.n_parallel + SPARE_SLOTS) * dims.n_vocab
    return Need(
        weights=weights,
        kv=int(n_paged * dims.kv_values * value_bytes),
        compute=4 * (activations + rows) + OPENVINO_KERNEL_BYTES,
        process=OPENVINO_PROCESS_BYTES + OPENVINO_TOKEN_BYTES * dims.n_vocab,
        converting=converting,
        # The converted file stays mapped until the first step has repacked it.
        loading=weights,
    )


def _converted_bytes(spec: LoadSpec, dims: ModelDims) -> int:
    """The size of the weights in their converted form."""
    bits = weight_bits(spec)
    if bits != 4:
        return dims.n_values * bits // 8
    tables = dims.table_values * (1 if dims.is_tied else 2)
    return int(tables + (dims.n_values - tables) * GROUPED_BYTES)


def _unread_bytes(spec: LoadSpec, dims: ModelDims) -> int:
    """An embedding that is not the output layer too: it stays in the file, of which rows are read.

    With weights of 4 bits, what the library adds to the others takes as much.
    """
    bits = weight_bits(spec)
    return 0 if dims.is_tied or bits == 4 else dims.table_values * bits // 8


def _converting(spec: LoadSpec, dims: ModelDims, file_bytes: int) -> int:
    """What the converter takes."""
    if path_of(spec.path).is_dir():
        return CONVERTER_BYTES + dims.n_values * CONVERTER_VALUE_BYTES
    return GGUF_CONVERTER_BYTES + max(dims.n_bytes, GGUF_CONVERTER_COPIES * file_bytes)


def _in_torch(spec: LoadSpec, dims: ModelDims) -> Need:
    cells = n_cells(spec, context_tokens(spec, dims.n_ctx_train))
    stored = dims.n_bytes / dims.n_values if dims.n_values else 2
    n_bytes = DTYPE_BYTES.get(spec.torch_dtype, stored)
    own_output = 0.0
    if spec.quantization == "none":
        # An output layer that shares the embedding's weights gets a packed copy of its own.
        own_output = dims.table_values * n_bytes if dims.is_tied else 0.0
        weights = dims.n_values * n_bytes + own_output
    else:
        rest = dims.n_values - dims.table_values
        weights = dims.table_values * n_bytes + rest * QUANTIZED_BYTES[spec.quantization]
    # Converted weights have left the mapped file before they are packed; others stay mapped until
    # then.
    gone = own_output if n_bytes != stored else 0.0
    step = STEP_TOKENS * (2 * dims.ffn + 6 * dims.hidden) + spec.n_parallel * dims.n_vocab
    return Need(
        weights=int(weights),
        kv=int(cells * dims.kv_values * n_bytes),
        compute=4 * step,
        process=TORCH_PROCESS_BYTES + TOKEN_BYTES * dims.n_vocab,
        loading=max(dims.n_bytes - int(gone), 0),
    )
