"""All models of one worker: gives leases on them, loads, unloads and lists them.

    async with Models(catalog, policy, launcher, clock, probe) as models:
        async with models.lease("some-model") as lease:
            async for event in lease.engine.call(body): ...

Each model has one owner task (`owner.py`, `owners.py`). Memory for all of them is reserved in
`memory/admission.py`.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Never, Self

from common import tracing
from worker_runtime.aio import Changes, first_of
from worker_runtime.catalog import Catalog, ModelEntry
from worker_runtime.clock import Clock
from worker_runtime.engine_process.interface import Launcher, OnProgress, Standby
from worker_runtime.lifecycle.leases import Lease
from worker_runtime.lifecycle.load import LifecycleContext
from worker_runtime.lifecycle.load_options import (
    LoadOption,
    LoadOptions,
    OnMeasured,
    WithContext,
    async_load_options,
    ignore_measurement,
    refuse_context,
    single_option,
)
from worker_runtime.lifecycle.memory_watch import measured, watch_memory
from worker_runtime.lifecycle.owners import Owners
from worker_runtime.lifecycle.snapshot import ModelSnapshot
from worker_runtime.lifecycle.standby import keep_standby
from worker_runtime.lifecycle.trial import Trial, Tried
from worker_runtime.lifecycle.unload import Freed
from worker_runtime.lifecycle.wait_queue import OnWait, WaitStatus
from worker_runtime.lifecycle.wait_spans import traced_lease
from worker_runtime.machine.kernel_memory import Kernels, NoKernels
from worker_runtime.memory.admission import MemoryAdmission
from worker_runtime.memory.ledger import Ledger, NoLedger
from worker_runtime.memory.monitor import MemoryMonitor, MemoryReading
from worker_runtime.memory.need import estimate
from worker_runtime.memory.probe import MachineMemory, MemoryProbe
from worker_runtime.memory.reservation import Holdings
from worker_runtime.off_loop import OffLoop, at_once
from worker_runtime.policy import LifecyclePolicy

__all__ = ["Lease", "LifecyclePolicy", "Models", "OnWait", "WaitStatus"]


# How many models to suggest where the requested one does not fit.
MAX_INSTEAD = 3
# How long the worker waits for the first scan of the disk before it serves without the result.
FIRST_SCAN_S = 20.0


class Models:
    """All models of one worker; enter it before use.

    Args:
        load_options: returns the load options of a model with the memory that each takes.
        with_context: returns a model with another context for each request.
        on_measured: called on the event loop; must neither block for long nor raise.
        kernels: what is known about native code on this processor; None if none is run.
        standby: a process that waits for the next model; None if none shall.
        ledger: the reservations of all workers of this machine; None if there is no other worker.
        off_loop: runs `load_options`, which may read files, outside the event loop.
    """

    def __init__(
        self,
        catalog: Catalog,
        policy: LifecyclePolicy,
        launcher: Launcher,
        clock: Clock,
        probe: MemoryProbe,
        *,
        standby: Standby | None = None,
        load_options: LoadOptions = single_option,
        with_context: WithContext = refuse_context,
        on_measured: OnMeasured = ignore_measurement,
        kernels: Kernels | None = None,
        ledger: Ledger | None = None,
        off_loop: OffLoop = at_once,
    ) -> None:
        self.catalog = catalog
        # Notified of each new state of a model, and of each scan.
        self.changes = Changes()
        self.clock = clock
        self.probe = probe
        self._standby = standby
        self._monitor = MemoryMonitor(probe, clock, self._standby_pid)
        self._admission = MemoryAdmission(
            policy, probe, ledger or NoLedger(), clock, self._monitor.gate, self._standby_pid
        )
        self._context = LifecycleContext(
            policy,
            launcher,
            clock,
            probe,
            self._admission,
            async_load_options(load_options, off_loop),
            on_measured,
            kernels or NoKernels(),
            self._instead_of,
            self.changes.notify,
        )
        self._with_context = with_context
        self._tasks = asyncio.TaskGroup()
        self._owners = Owners(catalog, self._context, self._tasks)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._watching = [
            self._tasks.create_task(self.catalog.keep_fresh()),
            self._tasks.create_task(self._tell_of_scans()),
            self._tasks.create_task(
                watch_memory(self._owners, self._admission, self._monitor, self.clock)
            ),
        ]
        try:
            # A disk that hangs must not keep the worker from starting and reporting that.
            await first_of(self.catalog.first_scan(), self.clock.sleep(FIRST_SCAN_S))
        except BaseException:
            self._stop_watching()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(hurry=error is not None)
        self._stop_watching()
        # The task group would wrap the body's error, so it is not passed on.
        await self._tasks.__aexit__(None, None, None)

    def lease(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,
        on_wait: OnWait | None = None,
    ) -> AbstractAsyncContextManager[Lease]:
        """Lease `model` ("" is the default model); it is loaded if necessary.

        Args:
            keep_alive_s: seconds that the model stays loaded after this lease if it is not used
                again; 0: unload it at once; negative: keep it until it is unloaded by hand; None:
                use the policy's idle timeout, or keep it if an earlier request asked for that.
            on_wait: called on the event loop while the caller waits, at once and after each change;
                not called if the model is ready. Must neither block nor raise.
        Raises:
            ModelNotFound: there is no such model.
            BackendLoadFailed: the files are broken, or a load failed now or a moment ago.
            Overloaded: too many callers wait, or other models held the memory for too long.
            NotReady: the worker is shutting down.
        """
        owner = self._owners.of(model)
        if (span := tracing.current.get()) is not None:
            return traced_lease(span, on_wait, lambda waits: owner.lease(keep_alive_s, waits))
        return owner.lease(keep_alive_s, on_wait)

    def standing_lease(self, model: str) -> AbstractContextManager[Lease]:
        """See `ModelOwner.standing_lease`."""
        return self._owners.of(model).standing_lease()

    async def load(
        self,
        model: str,
        on_progress: OnProgress | None = None,
        *,
        keep_alive_s: float | None = None,
        n_ctx: int | None = None,
        force: bool = False,
    ) -> None:
        """Load `model` now, even if it failed a moment ago.

        Args:
            n_ctx: tokens of one request, until the model is unloaded; None: as it is.
            force: load it as it is configured also if it seems not to fit. Idle models leave for
                it, and its own leases end if it is loaded with another context.
            on_progress: called with fraction and stage, under the same rules as `on_wait` of
                `lease`.
        Raises:
            UnsupportedParameter: this model's context is not decided here.
            ServingError: those of `lease`.
        """

        def report_progress(waiting: WaitStatus) -> None:
            if on_progress is not None:
                on_progress(waiting.load_fraction, waiting.load_stage or waiting.reason)

        owner = self._owners.of(model)
        entry = None if n_ctx is None else self._with_context(owner.found, n_ctx)
        await owner.load(keep_alive_s, report_progress, entry=entry, force=force)

    async def try_load(self, option: LoadOption) -> Tried | None:
        """Load `option` for a moment while nothing else happens here, and end its process.

        Returns:
            None if memory was short, or if a request came before it was done.
        Raises:
            ServingError: it could not be loaded.
        """
        return await Trial(option, self._context).run(lambda: self.is_busy)

    async def keep_standby(self) -> None:
        """Let a process wait for the next model, if one shall, until this is cancelled."""
        if self._standby is not None:
            await keep_standby(self._standby, self._admission, self.clock, lambda: self.is_busy)

    @property
    def is_busy(self) -> bool:
        """Whether a request is served or waits, or the worker is shutting down."""
        return self._owners.closing or any(s.n_leases or s.n_waiting for s in self.snapshot())

    async def unload(self, model: str, *, force: bool = False) -> Freed:
        """End the process of `model` when its leases end.

        Args:
            force: end it at once; those who hold leases see it die.
        Returns:
            How much memory that freed; zeros if the model was not loaded.
        Raises:
            ModelNotFound: there is no such model.
        """
        owner = self._owners.started(model)
        return Freed() if owner is None else await owner.unload(force=force)

    async def rescan(self) -> list[ModelSnapshot]:
        """Scan the disk now. Models whose files changed or were removed are unloaded once idle."""
        await self.catalog.rescan()
        return self.snapshot()

    def snapshot(self) -> list[ModelSnapshot]:
        """The state of all models. This wakes, loads and refreshes nothing."""
        return self._owners.snapshot()

    def memory(self, snapshots: list[ModelSnapshot]) -> MemoryReading:
        """Memory of this worker and its engine processes, measured at most once a second."""
        return measured(self._monitor, snapshots)

    def holdings(self, machine: MachineMemory) -> Holdings:
        """The memory reserved by this worker and by the other workers of the machine."""
        return self._admission.books.holdings(machine)

    @property
    def n_queued(self) -> int:
        """How many loads wait for memory."""
        return self._admission.n_waiting

    @property
    def n_booked(self) -> int:
        """How many models hold a reservation."""
        return len(self._admission.books.held)

    async def close(self, *, hurry: bool = False) -> None:
        """Refuse new leases, drain and unload all models; `hurry`: do not wait for leases to
        end."""
        await self._owners.close(hurry=hurry)

    def _standby_pid(self) -> int:
        """The process that waits for the next model; 0 if none does."""
        return 0 if self._standby is None else self._standby.standby_pid

    def _stop_watching(self) -> None:
        for task in self._watching:
            task.cancel()

    async def _tell_of_scans(self) -> Never:
        while True:
            await self.catalog.next_change(self.catalog.n_scans)
            self.changes.notify()

    def _instead_of(self, entry: ModelEntry) -> list[str]:
        """Ids of a few models with the same capability that would fit, the largest first."""
        others = [
            other
            for other in self.catalog.entries()
            if other.capability == entry.capability
            and not other.broken
            and other.size_bytes < entry.size_bytes
            and self._admission.could_fit(estimate(other).total)
        ]
        return [other.id for other in sorted(others, key=lambda o: -o.size_bytes)][:MAX_INSTEAD]
