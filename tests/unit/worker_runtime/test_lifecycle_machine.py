"""Any order of leases, releases, leaving waiters, crashes, failures, unloads and time keeps the
lifecycle's promises."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protos.errors import BackendLoadFailed, ServingError
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import FakeClock, FakeEngine, FakeLauncher, FakeProbe, settle
from worker_runtime.catalog import Catalog, Scan
from worker_runtime.lifecycle import Lease, LifecyclePolicy, Models
from worker_runtime.snapshot import ModelState
from worker_runtime.take_down import Freed

IDS = ("a", "b", "c")
MAX_LOADED = 2
POLICY = LifecyclePolicy(
    idle_timeout_s=60, max_loaded=MAX_LOADED, queue_wait_s=30, drain_s=20, max_waiting=4
)
PROCESS_STATES = {ModelState.READY, ModelState.DRAINING, ModelState.UNLOADING}


class Client:
    """One request: waits for its lease, holds it until told to release."""

    def __init__(self, models: Models, model: str, keep_alive_s: float | None) -> None:
        self.model = model
        self.lease: Lease | None = None
        self.error: ServingError | None = None
        self._release = asyncio.Event()
        self.task = asyncio.create_task(self._run(models, keep_alive_s))

    async def _run(self, models: Models, keep_alive_s: float | None) -> None:
        try:
            async with models.lease(self.model, keep_alive_s=keep_alive_s) as lease:
                engine = lease.engine
                assert engine.exit is None, "a lease on a dead process"
                self.lease = lease
                await self._release.wait()
        except ServingError as error:
            self.error = error
        finally:
            self.lease = None

    def release(self) -> None:
        self._release.set()


class LifecycleMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock, self.launcher = FakeClock(), FakeLauncher(auto=False)
        self.clients: list[Client] = []
        self.unloads: list[asyncio.Task[Freed]] = []
        self.stack = AsyncExitStack()
        catalog = Catalog(lambda: Scan([entry(i) for i in IDS], "a"), ttl_s=1e9, clock=self.clock)
        self.models = Models(catalog, POLICY, self.launcher, self.clock, FakeProbe())
        # One task holds the models open: their task group belongs to it.
        self.closing = asyncio.Event()
        self.open = self.loop.create_task(self._hold_open())
        self.run(settle())

    async def _hold_open(self) -> None:
        async with self.models:
            await self.closing.wait()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    def teardown(self) -> None:
        async def close() -> None:
            for engine in self.launcher.engines:
                engine.ignores_stop = False
                if engine.n_stops:
                    engine.kill()
            self.closing.set()
            for client in self.clients:
                client.release()
            await settle()
            await self.clock.tick(1000)
            await asyncio.gather(*(client.task for client in self.clients), *self.unloads)
            await self.open

        try:
            self.run(close())
            assert not self.launcher.alive, "a process is left behind"
            assert not self.models.n_booked, "memory is booked for nothing"
        finally:
            self.loop.close()

    @property
    def loading(self) -> list[FakeEngine]:
        return [engine for engine in self.launcher.alive if not engine.loading.done()]

    @property
    def waiting(self) -> list[Client]:
        return [c for c in self.clients if not c.task.done() and c.lease is None]

    @property
    def holding(self) -> list[Client]:
        return [c for c in self.clients if c.lease is not None]

    @rule(model=st.sampled_from(IDS), keep_alive_s=st.sampled_from([None, None, 0.0, 5.0, -1.0]))
    def ask(self, model: str, keep_alive_s: float | None) -> None:
        async def step() -> None:
            self.clients.append(Client(self.models, model, keep_alive_s))
            await settle()

        self.run(step())

    @precondition(lambda self: self.holding)
    @rule(choice=st.integers(0, 99))
    def release(self, choice: int) -> None:
        async def step() -> None:
            self.holding[choice % len(self.holding)].release()
            await settle()

        self.run(step())

    @precondition(lambda self: self.waiting)
    @rule(choice=st.integers(0, 99), n_steps=st.integers(0, 3))
    def leave(self, choice: int, n_steps: int) -> None:
        async def step() -> None:
            for _ in range(n_steps):
                await asyncio.sleep(0)
            client = self.waiting[choice % len(self.waiting)]
            client.task.cancel()
            await asyncio.wait({client.task})
            self.clients.remove(client)
            await settle()

        self.run(step())

    @precondition(lambda self: self.loading)
    @rule(choice=st.integers(0, 99), at_once=st.booleans())
    def finish_load(self, choice: int, at_once: bool) -> None:
        async def step() -> None:
            self.loading[choice % len(self.loading)].finish_load()
            if at_once and self.waiting:
                await asyncio.sleep(0)
                client = self.waiting[0] if self.waiting else self.clients[0]
                client.task.cancel()
                await asyncio.wait({client.task})
                self.clients.remove(client)
            await settle()

        self.run(step())

    @precondition(lambda self: self.loading)
    @rule(choice=st.integers(0, 99))
    def fail_load(self, choice: int) -> None:
        async def step() -> None:
            engine = self.loading[choice % len(self.loading)]
            engine.fail_load(BackendLoadFailed("no"))
            await settle()

        self.run(step())

    @precondition(lambda self: self.launcher.alive)
    @rule(choice=st.integers(0, 99))
    def crash(self, choice: int) -> None:
        async def step() -> None:
            alive = self.launcher.alive
            alive[choice % len(alive)].die()
            await settle()

        self.run(step())

    @precondition(lambda self: self.launcher.alive)
    @rule(choice=st.integers(0, 99))
    def stop_is_slow(self, choice: int) -> None:
        self.launcher.alive[choice % len(self.launcher.alive)].ignores_stop = True

    @rule()
    def slow_stops_end(self) -> None:
        async def step() -> None:
            for engine in self.launcher.alive:
                if engine.n_stops:
                    engine.kill()
            await settle()

        self.run(step())

    @rule(delta_s=st.sampled_from([0.5, 3.0, 10.0, 35.0, 70.0]))
    def tick(self, delta_s: float) -> None:
        self.run(self.clock.tick(delta_s))

    @rule(model=st.sampled_from(IDS))
    def unload(self, model: str) -> None:
        async def step() -> None:
            self.unloads.append(asyncio.create_task(self.models.unload(model)))
            await settle()

        self.run(step())

    @invariant()
    def leases_are_on_ready_models_and_counted(self) -> None:
        for snapshot in self.models.snapshot():
            held = [c for c in self.holding if c.model == snapshot.entry.id]
            if snapshot.state in PROCESS_STATES:
                alive = [c for c in held if c.lease is not None and c.lease.engine.exit is None]
                assert snapshot.n_leases >= len(alive)
            else:
                assert all(c.lease is None or c.lease.engine.exit is not None for c in held)

    @invariant()
    def no_waiter_is_lost(self) -> None:
        for snapshot in self.models.snapshot():
            waiting = [c for c in self.waiting if c.model == snapshot.entry.id]
            assert snapshot.n_waiting == len(waiting)
            idle = {ModelState.UNLOADED, ModelState.FAILED, ModelState.READY}
            assert not (waiting and snapshot.state in idle), "waits for a model that does nothing"

    @invariant()
    def never_more_processes_than_allowed(self) -> None:
        assert len(self.launcher.alive) <= MAX_LOADED

    @invariant()
    def one_process_a_model(self) -> None:
        alive = [engine.entry.id for engine in self.launcher.alive]
        assert len(alive) == len(set(alive))

    @invariant()
    def only_serving_errors_reach_clients(self) -> None:
        for client in self.clients:
            if client.task.done() and not client.task.cancelled():
                assert client.task.exception() is None


TestLifecycle = LifecycleMachine.TestCase
TestLifecycle.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLifecycle.pytestmark = [pytest.mark.timeout(120)]  # type: ignore[attr-defined]
