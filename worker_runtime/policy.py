"""The figures of the lifecycle: timeouts and limits."""

import msgspec


class LifecyclePolicy(msgspec.Struct, frozen=True):
    """Timeouts in seconds and limits."""

    # Seconds after the last lease until an idle model is unloaded; None: never.
    idle_timeout_s: float | None = 3600.0
    # Seconds after the last lease until an idle model drops its caches; None: only when unloaded.
    shed_after_s: float | None = 900.0
    # How many models may be loaded or loading at once; 0: as many as fit into memory.
    max_loaded: int = 0
    # Limit on the sum of all reservations; None: no limit.
    memory_limit_bytes: int | None = None
    # Refuse a load if the machine, or the container, has too little memory left.
    memory_check: bool = True
    # Memory that a load must leave free; None: 10 % of the machine's memory, at least 512 MiB.
    min_remain_bytes: int | None = None
    # Seconds after which a model in use may be evicted for another; never less than its load took.
    turn_s: float = 2.0
    # How many callers may wait for one model.
    max_waiting: int = 64
    # Seconds that a load waits for memory that other models hold.
    queue_wait_s: float = 30.0
    load_timeout_s: float = 600.0
    # Seconds that a worker that stops waits for leases to end before it kills the process.
    drain_s: float = 25.0
    # Seconds that a process may take to exit after it was asked to.
    stop_grace_s: float = 5.0
    # Back-off in seconds after a failed load; it doubles with each failure, up to the second value.
    backoff_first_s: float = 10.0
    backoff_most_s: float = 300.0
    # This many crashes of a loaded model within the window open the circuit breaker.
    crash_limit: int = 5
    crash_window_s: float = 60.0
