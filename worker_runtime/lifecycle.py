"""All models of one worker: lease one, load one, unload one, look at them.

    async with Models(catalog, policy, launcher, clock, probe) as models:
        async with models.lease("some-model") as lease:
            async for event in lease.engine.call(body): ...

Each model has one owner task (`owner.py`); above them a scheduler books memory (`scheduler.py`).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from worker_runtime.catalog import Catalog, ModelEntry
from worker_runtime.clock import Clock
from worker_runtime.launcher import Launcher, OnProgress
from worker_runtime.leases import Lease, OnWait, Waiting
from worker_runtime.memory.probe import MemoryProbe
from worker_runtime.policy import LifecyclePolicy
from worker_runtime.snapshot import ModelSnapshot

__all__ = ["Lease", "LifecyclePolicy", "Models", "Waiting"]


class Models:
    def __init__(
        self,
        catalog: Catalog,
        policy: LifecyclePolicy,
        launcher: Launcher,
        clock: Clock,
        probe: MemoryProbe,
        *,
        estimate: Callable[[ModelEntry], int] | None = None,
    ) -> None:
        self._catalog = catalog
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def lease(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> AsyncIterator[Lease]:
        """Use `model` ("" is the default), loading it if needed.

        Args:
            keep_alive_s: how long it stays loaded after this lease if nobody else uses it; 0: not
                at all, negative: for ever, None: the policy's idle timeout.
            on_wait: called (on the event loop, must not block) at once and on each change while
                the caller waits.
        Raises:
            ModelNotFound: no such model, or a broken one.
            BackendLoadFailed: it could not be loaded now, or a moment ago.
            Overloaded: too many wait for it, or other models hold the memory for too long.
            NotReady: the worker is shutting down.
        """
        raise NotImplementedError
        yield

    async def load(
        self,
        model: str,
        on_progress: OnProgress | None = None,
        *,
        keep_alive_s: float | None = None,
    ) -> None:
        """Load `model` now, also if it failed a moment ago. Raises as `lease` does."""
        raise NotImplementedError

    async def unload(self, model: str) -> int:
        """End `model`'s process once its leases end or the drain limit passes.

        Returns:
            resident bytes of its process before it ended; 0 if it was not loaded.
        """
        raise NotImplementedError

    def rescan(self) -> list[ModelSnapshot]:
        """Look at the disk now; models that changed or went are unloaded once idle."""
        raise NotImplementedError

    def snapshot(self) -> list[ModelSnapshot]:
        """All models; wakes, loads and refreshes nothing."""
        raise NotImplementedError

    async def close(self, *, drain_s: float | None = None) -> None:
        """Refuse new work and unload everything; called again with 0 it kills at once."""
        raise NotImplementedError
