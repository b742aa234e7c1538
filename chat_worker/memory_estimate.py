"""What a chat model takes in memory, computed from its files' headers before it is loaded.

For llama.cpp: weights as they are in the file; the KV cache is `llama_kv_cache`'s (all layers have
all cells, as `swa_full` is on). For transformers: `torch` weights in their dtype, packed for
oneDNN, and what the slots hold. Constants were measured; `run.py bench estimate` shows how far they
are off.
"""

from chat_worker.backends.sizes import context_tokens, n_cells
from chat_worker.model_dims import ModelDims, model_dims
from chat_worker.pipe_messages import LoadSpec
from common.sizes import MIB
from worker_runtime.memory.need import Need
from worker_runtime.model_files.odd_paths import path_of

# Interpreter and libraries with nothing loaded, measured on Linux x86-64.
LLAMA_PROCESS_BYTES = 66 * MIB
TORCH_PROCESS_BYTES = 420 * MIB
# Of a vocabulary in memory: texts, scores, and the table from text to id.
TOKEN_BYTES = 140
# Bytes of one cached number.
KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
# Slots beyond the running ones: llama.cpp keeps a row of logits for each.
SPARE_SLOTS = 4
# Of one position that one token of a micro-batch may look at.
MASK_BYTES = 2
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Of one weight, scales included (bitsandbytes: nf4 in blocks of 64, int8 by row).
QUANTIZED_BYTES = {"4bit": 0.57, "8bit": 1.02}
# Tokens of one step as the scheduler chooses them on slow machines, for activations.
STEP_TOKENS = 512


def memory_need(spec: LoadSpec) -> Need:
    """What loading `spec` takes.

    Raises:
        InvalidModelFile: a header is not valid.
        OSError: a file cannot be read.
    """
    path = path_of(spec.path)
    dims = model_dims(path)
    cells = n_cells(spec, context_tokens(spec, dims.n_ctx_train))
    return (_in_torch if path.is_dir() else _in_llama)(spec, dims, cells)


def _in_llama(spec: LoadSpec, dims: ModelDims, cells: int) -> Need:
    activations = 4 * (2 * dims.ffn + 3 * dims.hidden) + MASK_BYTES * cells
    logits = 4 * (spec.n_parallel + SPARE_SLOTS) * dims.n_vocab
    # A state is of a slot, not of a cell, and always in 32 bits.
    states = 4 * spec.n_parallel * dims.state_values
    return Need(
        weights=dims.n_bytes + dims.output_copy_bytes,
        kv=int(cells * dims.kv_values * KV_BYTES[spec.kv_type]) + states,
        compute=min(spec.n_ubatch, spec.n_batch, cells) * activations + logits,
        process=LLAMA_PROCESS_BYTES + TOKEN_BYTES * dims.n_vocab,
    )


def _in_torch(spec: LoadSpec, dims: ModelDims, cells: int) -> Need:
    stored = dims.n_bytes / dims.n_values if dims.n_values else 2
    n_bytes = DTYPE_BYTES.get(spec.torch_dtype, stored)
    own_output = 0.0
    if spec.quantization == "none":
        # Packed for the processor, an output layer that is the embedding too becomes its own.
        own_output = dims.table_values * n_bytes if dims.is_tied else 0.0
        weights = dims.n_values * n_bytes + own_output
    else:
        rest = dims.n_values - dims.table_values
        weights = dims.table_values * n_bytes + rest * QUANTIZED_BYTES[spec.quantization]
    # Converted weights have left the file when they are packed; others are its pages until then.
    gone = own_output if n_bytes != stored else 0.0
    step = STEP_TOKENS * (2 * dims.ffn + 6 * dims.hidden) + spec.n_parallel * dims.n_vocab
    return Need(
        weights=int(weights),
        kv=int(cells * dims.kv_values * n_bytes),
        compute=4 * step,
        process=TORCH_PROCESS_BYTES + TOKEN_BYTES * dims.n_vocab,
        loading=max(dims.n_bytes - int(gone), 0),
    )
