"""The memory estimate of a model, part by part, computed before it is loaded."""

import msgspec

from worker_runtime.catalog import ModelEntry


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that a model takes.

    Args:
        weights: the weights in memory.
        kv: all cells of the KV cache.
        compute: buffers for one step.
        caches: what the model may keep of past work.
        spare: what it may keep beyond that where memory is free. It is booked as far as memory is,
            and taken back for other models; not in the total.
        process: interpreter, libraries, tokenizer.
        loading: mapped while it loads, and given back then; not in the total.
        converting: what making another form of the model takes beyond all else; booked until the
            model is loaded.
        correction: what past loads of the same taught, over the sum of the rest; may be negative.
    """

    weights: int = 0
    kv: int = 0
    compute: int = 0
    caches: int = 0
    process: int = 0
    correction: int = 0
    converting: int = 0
    loading: int = 0
    spare: int = 0

    @property
    def total(self) -> int:
        """What is to be booked for its load."""
        parts: tuple[int, ...] = msgspec.structs.astuple(self)
        return sum(parts) - self.loading - self.spare

    @property
    def loaded(self) -> int:
        """What stays booked once it is loaded."""
        return self.total - self.converting

    @property
    def peak(self) -> int:
        """The most at any time. Parts that grow with use are not there yet during the load."""
        return self.total + max(self.loading - self.kv - self.compute - self.caches, 0)


# The weights plus a fifth for KV cache and compute buffers; transformers needs more.
GROWTH = {"llama.cpp": 1.2, "transformers": 1.5, "sentence-transformers": 1.5}
# The process without the model: interpreter and native libraries.
PROCESS_BYTES = {"llama.cpp": 150 << 20, "transformers": 450 << 20, "remote": 60 << 20}
LARGEST_PROCESS_BYTES = 450 << 20


def estimate(entry: ModelEntry) -> Need:
    """A rough estimate from the weights' size, for models without an estimate of their own."""
    growth = GROWTH.get(entry.backend, max(GROWTH.values()))
    process = PROCESS_BYTES.get(entry.backend, LARGEST_PROCESS_BYTES)
    return Need(weights=int(entry.size_bytes * growth), process=process)
