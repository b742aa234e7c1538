"""A model's state as plain values for status, metrics and tests; reading it wakes nothing."""

import enum

import msgspec

from worker_runtime.cache_counts import CacheCounts
from worker_runtime.catalog import ModelEntry
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import ProcessMemory


class ModelState(enum.Enum):
    """The states of a model; `state.ALLOWED` lists the changes between them."""

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
    """Sums since the worker started."""

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
    # By the place of the cache ("memory", "disk"); empty for a model without caches.
    caches: dict[str, CacheCounts] = {}
    busy_seconds_sum: float = 0.0


class ModelSnapshot(msgspec.Struct, frozen=True):
    """One model at one moment."""

    entry: ModelEntry
    is_default: bool
    state: ModelState
    counters: Counters
    n_leases: int = 0
    n_waiting: int = 0
    # While loading: progress from 0 to 1, and the present stage.
    load_fraction: float = 0.0
    load_stage: str = ""
    # Seconds since the epoch; 0 while unloaded.
    loaded_at_s: float = 0.0
    # Seconds since the last lease ended; None before the first and while one is held.
    idle_s: float | None = None
    # 0 while unloaded.
    pid: int = 0
    memory: ProcessMemory = ProcessMemory()
    # Leases since the model was loaded.
    requests_of_load: int = 0
    # The memory estimate, part by part; None while unloaded.
    need: Need | None = None
    booked_bytes: int = 0
    # The reason if the state is FAILED or the files are broken, and when a load is tried again.
    failure: str = ""
    retry_after_s: float | None = None
    # What the last unload freed, as measured; None before the first unload.
    freed_bytes: int | None = None
    # The model stays loaded until it is unloaded by hand.
    pinned: bool = False
    # Seconds until it is unloaded as idle; None while it is in use, pinned or unloaded.
    expires_in_s: float | None = None
    # What the loaded model gave up to fit into memory, and its id if another model stands in.
    reductions: tuple[str, ...] = ()
    served_by: str = ""
    # Which chat template the engine uses; empty while unloaded, and for models without prompts.
    chat_template: str = ""
