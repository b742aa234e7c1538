"""What status, metrics and tests see of a model: plain values, taken without waking anything."""

import enum

import msgspec

from worker_runtime.cache_counts import CacheCounts
from worker_runtime.catalog import ModelEntry
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import ProcessMemory


class ModelState(enum.Enum):
    UNLOADED = "unloaded"
    QUEUED = "queued"
    RESERVED = "reserved"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    UNLOADING = "unloading"
    VERIFYING = "verifying"
    FAILED = "failed"


class Counters(msgspec.Struct):
    """Sums since the worker's start."""

    loads: int = 0
    load_failures: int = 0
    load_seconds_sum: float = 0.0
    crashes: int = 0
    unloads: int = 0
    recycles: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    # By the place where results of past work are kept; none where nothing is.
    caches: dict[str, CacheCounts] = {}
    busy_seconds_sum: float = 0.0


class ModelSnapshot(msgspec.Struct, frozen=True):
    entry: ModelEntry
    is_default: bool
    state: ModelState
    counters: Counters
    n_leases: int = 0
    n_waiting: int = 0
    # Loading only, 0 to 1, and what is being done.
    load_fraction: float = 0.0
    load_stage: str = ""
    # Seconds since the epoch; 0 while unloaded.
    loaded_at_s: float = 0.0
    # Seconds since the last lease ended; None before the first and while one is held.
    idle_s: float | None = None
    # 0 while unloaded.
    pid: int = 0
    memory: ProcessMemory = ProcessMemory()
    # Leases since the present load began.
    requests_of_load: int = 0
    # What it was computed to need, by part; None while unloaded.
    need: Need | None = None
    booked_bytes: int = 0
    # FAILED or broken on disk: why, and when a load is tried again.
    failure: str = ""
    retry_after_s: float | None = None
    # What the last unload gave back, measured; None before the first.
    freed_bytes: int | None = None
    # Stays until it is unloaded by hand.
    pinned: bool = False
    # Seconds until it is unloaded for idleness; None while in use, pinned or unloaded.
    expires_in_s: float | None = None
    # What the loaded one gave up to fit into memory, and its id if another model is in its place.
    reductions: tuple[str, ...] = ()
    served_by: str = ""
