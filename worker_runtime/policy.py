"""The lifecycle's numbers, in one place."""

import msgspec


class LifecyclePolicy(msgspec.Struct, frozen=True):
    # Seconds after the last lease until a model is unloaded; None: never.
    idle_timeout_s: float | None = 3600.0
    # Seconds after the last lease until a model gives its caches back; None: never before it goes.
    shed_after_s: float | None = 900.0
    # Models loaded or loading at once; 0: as many as the memory takes.
    max_loaded: int = 0
    # Sum of the estimates of all loaded models; None: no limit of our own.
    memory_limit_bytes: int | None = None
    # Refuse a load for which the machine, or the container, has too little left.
    memory_check: bool = True
    # What a load must leave to everybody else; None: 10 % of the memory, 512 MiB at the least.
    min_remain_bytes: int | None = None
    # A model in use makes way for one that waits after this, or after as long as its load took.
    turn_s: float = 2.0
    # Callers that may wait for one model.
    max_waiting: int = 64
    # How long a load waits for memory that other models hold.
    queue_wait_s: float = 30.0
    load_timeout_s: float = 600.0
    # How long a worker that stops waits for leases to end before it kills the process.
    drain_s: float = 25.0
    # How long a process may take to exit after being asked.
    stop_grace_s: float = 5.0
    # A failed load is tried again after this, twice as long each time, up to the second.
    backoff_first_s: float = 10.0
    backoff_most_s: float = 300.0
    # Crashes of a loaded model within the window that open the breaker.
    crash_limit: int = 5
    crash_window_s: float = 60.0
