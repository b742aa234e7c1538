"""What a chat model takes in memory, computed from its files' headers before it is loaded.

For llama.cpp: weights as they are in the file; the KV cache is `llama_kv_cache`'s (all layers have
all cells, as `swa_full` is on). For transformers: `torch` weights in their dtype, packed for
oneDNN, and what the slots hold. Constants were measured; `run.py bench estimate` shows how far they
are off.
"""

from chat_worker.backends.sizes import context_tokens, n_cells
from chat_worker.messages import LoadSpec
from chat_worker.shape import Shape, shape_of
from worker_runtime.memory.need import Need
from worker_runtime.odd_paths import path_of

MIB = 1 << 20
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


def need(spec: LoadSpec) -> Need:
    """What loading `spec` takes.

    Raises:
        InvalidModelFile: a header is not valid.
        OSError: a file cannot be read.
    """
    path = path_of(spec.path)
    shape = shape_of(path)
    cells = n_cells(spec, context_tokens(spec, shape.n_ctx_train))
    return (_in_torch if path.is_dir() else _in_llama)(spec, shape, cells)


def _in_llama(spec: LoadSpec, shape: Shape, cells: int) -> Need:
    activations = 4 * (2 * shape.ffn + 3 * shape.hidden) + MASK_BYTES * cells
    logits = 4 * (spec.n_parallel + SPARE_SLOTS) * shape.n_vocab
    # A state is of a slot, not of a cell, and always in 32 bits.
    states = 4 * spec.n_parallel * shape.state_values
    return Need(
        weights=shape.n_bytes + shape.output_copy_bytes,
        kv=int(cells * shape.kv_values * KV_BYTES[spec.kv_type]) + states,
        compute=min(spec.n_ubatch, spec.n_batch, cells) * activations + logits,
        process=LLAMA_PROCESS_BYTES + TOKEN_BYTES * shape.n_vocab,
    )


def _in_torch(spec: LoadSpec, shape: Shape, cells: int) -> Need:
    stored = shape.n_bytes / shape.n_values if shape.n_values else 2
    n_bytes = DTYPE_BYTES.get(spec.torch_dtype, stored)
    own_output = 0.0
    if spec.quantization == "none":
        # Packed for the processor, an output layer that is the embedding too becomes its own.
        own_output = shape.table_values * n_bytes if shape.is_tied else 0.0
        weights = shape.n_values * n_bytes + own_output
    else:
        rest = shape.n_values - shape.table_values
        weights = shape.table_values * n_bytes + rest * QUANTIZED_BYTES[spec.quantization]
    # Converted weights have left the file when they are packed; others are its pages until then.
    gone = own_output if n_bytes != stored else 0.0
    step = STEP_TOKENS * (2 * shape.ffn + 6 * shape.hidden) + spec.n_parallel * shape.n_vocab
    return Need(
        weights=int(weights),
        kv=int(cells * shape.kv_values * n_bytes),
        compute=4 * step,
        process=TORCH_PROCESS_BYTES + TOKEN_BYTES * shape.n_vocab,
        loading=max(shape.n_bytes - int(gone), 0),
    )
