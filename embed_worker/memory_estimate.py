"""The memory that an embedding model needs, computed before it is loaded from the size of its
weights and of its vector cache. The constants were measured; a test compares them.
"""

from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from common.sizes import MIB, mib
from embed_worker import headers
from embed_worker.encoders.conversion_cache import CONVERSIONS
from embed_worker.encoders.prepared import prepared_for
from embed_worker.library import (
    CAUSAL_RERANKER,
    CROSS_ENCODER,
    LLAMA_CPP,
    LLAMA_RERANKER,
    OPENVINO,
    STATIC,
    TORCH,
)
from embed_worker.pipe_messages import LoadSpec, spec_decoder
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process import protocol
from worker_runtime.libraries import missing_modules
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.memory.need import Need

# The interpreter and the libraries without a model, measured on Linux x86-64.
PROCESS_BYTES = {
    OPENVINO: 105 * MIB,
    LLAMA_CPP: 60 * MIB,
    TORCH: 420 * MIB,
    CROSS_ENCODER: 420 * MIB,
    CAUSAL_RERANKER: 420 * MIB,
    LLAMA_RERANKER: 60 * MIB,
    STATIC: 55 * MIB,
}
# The activations of one micro-batch grow little with the model, because batches are small.
# llama.cpp reserves memory for attention over a whole batch.
BATCH_BYTES = {
    OPENVINO: 20 * MIB,
    LLAMA_CPP: 54 * MIB,
    TORCH: 24 * MIB,
    CROSS_ENCODER: 24 * MIB,
    CAUSAL_RERANKER: 24 * MIB,
    LLAMA_RERANKER: 54 * MIB,
    STATIC: 8 * MIB,
}


# The bytes of activations for each token of the longest text and each of its hidden numbers,
# measured on BERT of base width with 8,192 tokens. OpenVINO needs less in bfloat16.
LONG_BYTES = {OPENVINO: 64, TORCH: 100, CROSS_ENCODER: 100, CAUSAL_RERANKER: 100}
LONG_BFLOAT16_BYTES = 38
# No more tokens are reserved for: few texts are longer, and the memory for them would often keep a
# model from being loaded.
MOST_BOOKED_TOKENS = 8192
# The values of `OPENVINO_PRECISION` that compute in bfloat16; "auto" does so if the CPU has it.
HALVED = ("auto", "bf16")
# The memory of the process that converts: its libraries, and copies of the weights in float32,
# measured on all-MiniLM-L6-v2 and on BERT base.
CONVERTER_BYTES = 600 * MIB
CONVERTER_COPIES = 3
FLOAT_BYTES = 4


def load_options(entry: ModelEntry) -> tuple[LoadOption, ...]:
    """Return the load options of an embedding model.

    There is only one, because giving something up would save little memory. A model for OpenVINO
    may also have one on torch, in case it cannot be converted or the memory for that is missing.

    Raises:
        InvalidModelFile: its files have changed since they were listed, and cannot be loaded.
        OSError: a file cannot be read or no longer exists.
    """
    said = headers.read(entry.path)
    spec = spec_decoder.decode(entry.load_spec)
    if spec.backend == OPENVINO:
        return tuple(_openvino_or_torch(entry, spec, said))
    is_llama = spec.backend in (LLAMA_CPP, LLAMA_RERANKER)
    plain = protocol.raw(replace(spec, extra_buffers=False)) if is_llama else None
    return (LoadOption(entry, memory_need(spec, said), plain_spec=plain),)


def _openvino_or_torch(
    entry: ModelEntry, spec: LoadSpec, said: headers.Said
) -> Iterator[LoadOption]:
    record = CONVERSIONS.known(entry.path, Path(spec.converted_dir))
    need = memory_need(spec, said)
    why = f"its conversion is not done, which takes {mib(_conversion_bytes(said))}"
    if record is None and prepared_for(entry.path) is not None:
        yield LoadOption(entry, need)
        why = "its converted form is not stored"
    elif record is None:
        # During the conversion the model's own weights are not loaded yet.
        beyond = max(_conversion_bytes(said) - need.weights, 0)
        yield LoadOption(entry, replace(need, converting=beyond))
    elif record.refusal and spec.may_fall_back:
        why = record.refusal
    else:
        yield LoadOption(entry, need)
        return
    if spec.may_fall_back and not missing_modules(TORCH):
        on_torch = replace(spec, backend=TORCH, fingerprint=spec.torch_fingerprint)
        other = replace(
            entry, backend=TORCH, fingerprint=on_torch.fingerprint, load_spec=protocol.raw(on_torch)
        )
        yield LoadOption(other, memory_need(on_torch, said), (f"on torch, not OpenVINO: {why}",))


def _conversion_bytes(said: headers.Said) -> int:
    return CONVERTER_BYTES + CONVERTER_COPIES * said.n_numbers * FLOAT_BYTES


def memory_need(spec: LoadSpec, said: headers.Said) -> Need:
    plain = Need(
        compute=max(BATCH_BYTES[spec.backend], _longest_text_bytes(spec, said)),
        caches=spec.cache_bytes,
        process=PROCESS_BYTES[spec.backend],
    )
    if spec.backend != OPENVINO:
        return replace(plain, weights=said.size_bytes)
    # OpenVINO stores weights in the precision of its computation. It makes them from the converted
    # file, which it maps, and which is in float32 whatever the type in the model's files.
    size_bytes = said.n_numbers * FLOAT_BYTES
    share = {"int8": 0.25, **dict.fromkeys(HALVED, 0.5)}.get(spec.precision, 1.0)
    return replace(plain, weights=int(size_bytes * share), loading=size_bytes)


def _longest_text_bytes(spec: LoadSpec, said: headers.Said) -> int:
    per_number = LONG_BYTES.get(spec.backend, 0)
    if spec.backend == OPENVINO and spec.precision in HALVED:
        per_number = LONG_BFLOAT16_BYTES
    return min(said.context_length, MOST_BOOKED_TOKENS) * said.hidden_size * per_number
