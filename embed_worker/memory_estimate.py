"""The memory that an embedding model needs, computed before it is loaded from the size of its
weights and of its vector cache. The constants were measured; a test compares them.
"""

from msgspec.structs import replace

from common.sizes import MIB
from embed_worker import headers
from embed_worker.library import CROSS_ENCODER, LLAMA_CPP, OPENVINO, TORCH
from embed_worker.pipe_messages import LoadSpec, spec_decoder
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process import protocol
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.memory.need import Need

# The interpreter and the libraries without a model, measured on Linux x86-64.
PROCESS_BYTES = {
    OPENVINO: 105 * MIB,
    LLAMA_CPP: 60 * MIB,
    TORCH: 420 * MIB,
    CROSS_ENCODER: 420 * MIB,
}
# Activations of one micro-batch: they grow little with the model, because batches are small.
# llama.cpp reserves memory for attention over a whole batch.
BATCH_BYTES = {OPENVINO: 20 * MIB, LLAMA_CPP: 54 * MIB, TORCH: 24 * MIB, CROSS_ENCODER: 24 * MIB}


def load_options(entry: ModelEntry) -> tuple[LoadOption, ...]:
    """The only way to load an embedding model: smaller options would save too little.

    Raises:
        InvalidModelFile: its files changed since they were listed, and cannot be loaded.
        OSError: a file cannot be read, or is gone.
    """
    headers.read(entry.path)
    spec = spec_decoder.decode(entry.load_spec)
    plain = protocol.raw(replace(spec, extra_buffers=False)) if spec.backend == LLAMA_CPP else None
    return (LoadOption(entry, memory_need(spec, entry.size_bytes), plain_spec=plain),)


def memory_need(spec: LoadSpec, size_bytes: int) -> Need:
    """The memory that loading `spec` needs.

    Args:
        size_bytes: of the weights on disk.
    """
    plain = Need(
        compute=BATCH_BYTES[spec.backend],
        caches=spec.cache_bytes,
        process=PROCESS_BYTES[spec.backend],
    )
    if spec.backend != OPENVINO:
        return replace(plain, weights=size_bytes)
    # OpenVINO stores them in the dtype of its computation, and maps the converted file for that.
    share = {"int8": 0.25, "bf16": 0.5, "auto": 0.5}.get(spec.precision, 1.0)
    return replace(plain, weights=int(size_bytes * share), loading=size_bytes)
