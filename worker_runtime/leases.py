"""What a caller of the lifecycle holds: a place in the wait for a model, then a lease on it."""

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec

from worker_runtime.catalog import ModelEntry
from worker_runtime.launcher import EngineProcess


class Waiting(msgspec.Struct, frozen=True):
    """What a waiting caller is told, at once and whenever it changes."""

    # 1 is next.
    position: int
    # "queue": other models hold the memory; "load": the model is being loaded.
    reason: Literal["queue", "load"]
    # 0 to 1.
    load_fraction: float = 0.0
    estimated_wait_s: float | None = None


OnWait = Callable[[Waiting], None]


class TokenCounts(msgspec.Struct):
    """Sums over the requests of one model since the worker's start."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


class Lease:
    """The right to use a loaded model; while one is held the model is not unloaded for idleness."""

    def __init__(
        self,
        entry: ModelEntry,
        engine: EngineProcess,
        facts: msgspec.Raw,
        counts: TokenCounts,
    ) -> None:
        self.entry = entry
        self.engine = engine
        # What the engine returned from `load`: the worker's own struct, encoded.
        self.facts = facts
        self._counts = counts

    def count_tokens(self, *, prompt: int = 0, cached: int = 0, completion: int = 0) -> None:
        """Add to the model's counters (shown in status and metrics)."""
        self._counts.prompt += prompt
        self._counts.cached += cached
        self._counts.completion += completion


class Waiter:
    """One caller that waits for a model to become ready."""

    def __init__(self, on_wait: OnWait | None) -> None:
        self.granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._on_wait = on_wait
        self._told: Waiting | None = None

    def tell(self, waiting: Waiting) -> None:
        if self._on_wait is not None and waiting != self._told:
            self._told = waiting
            self._on_wait(waiting)
