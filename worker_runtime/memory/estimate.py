"""A first, honest guess of what a model takes in memory, from the size of its weights."""

from worker_runtime.catalog import ModelEntry
from worker_runtime.memory.need import Need

# Weights as they are plus a fifth for KV cache and compute buffers; transformers keeps more.
GROWTH = {"llama.cpp": 1.2, "transformers": 1.5, "sentence-transformers": 1.5}
# The process itself: interpreter and native libraries.
PROCESS_BYTES = {"llama.cpp": 150 << 20, "transformers": 450 << 20, "remote": 60 << 20}
LARGEST_PROCESS_BYTES = 450 << 20


def estimate(entry: ModelEntry) -> Need:
    growth = GROWTH.get(entry.backend, max(GROWTH.values()))
    process = PROCESS_BYTES.get(entry.backend, LARGEST_PROCESS_BYTES)
    return Need(weights=int(entry.size_bytes * growth), process=process)
