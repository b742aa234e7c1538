"""What a model takes in memory, part by part, as it is computed before a load."""

import msgspec


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes.

    Args:
        weights: as they are in memory.
        kv: of all cells of the cache.
        compute: buffers for one step.
        caches: what the model may keep of past work.
        process: interpreter, libraries, tokenizer.
        loading: mapped while it loads, and given back then; not in the total.
        correction: what past loads of the same taught, over the sum of the rest; may be negative.
    """

    weights: int = 0
    kv: int = 0
    compute: int = 0
    caches: int = 0
    process: int = 0
    correction: int = 0
    loading: int = 0

    @property
    def total(self) -> int:
        """What is to be booked."""
        parts: tuple[int, ...] = msgspec.structs.astuple(self)
        return sum(parts) - self.loading

    @property
    def peak(self) -> int:
        """The most at any time: what is only used later is not there yet while it loads."""
        return self.total + max(self.loading - self.kv - self.compute - self.caches, 0)
