"""Any order of leases, releases, leaving waiters, crashes, failures, unloads, time and of what the
machine's other programs and workers do keeps the lifecycle's promises."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from common.errors import BackendLoadFailed, ServingError
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fake_machine import (
    GIB,
    HEADROOM_BYTES,
    TOTAL_BYTES,
    FakeMachine,
    MachineEngine,
)
from tests.unit.worker_runtime.fake_workers import (
    MODELS,
    POLICY,
    SHARE_OF_SMALLER,
    SIZES,
    Client,
    Worker,
)
from tests.unit.worker_runtime.fakes import settle
from worker_runtime.engine_process.load_errors import out_of_memory
from worker_runtime.lifecycle.snapshot import ModelSnapshot, ModelState
from worker_runtime.memory.pressure import Stall

# Waits for memory, for a load, for another's drain and stop, for a pause.
MOST_WAIT_S = 2 * (POLICY.queue_wait_s + POLICY.drain_s) + POLICY.load_timeout_s + 30
LOADING = {ModelState.RESERVED, ModelState.LOADING}
REFUSALS = {"over_limit", "machine_memory", "held_by_pins"}
AT_REST = {ModelState.UNLOADED, ModelState.FAILED, ModelState.READY}

models_ = st.sampled_from("".join(MODELS))
keep_alives = st.sampled_from([None, None, None, 0.0, 5.0, -1.0])
choices = st.integers(0, 99)


class LifecycleMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.machine = FakeMachine()
        self.workers: list[Worker] = []
        # Whose errors were looked at: what they say is true of that moment.
        self.judged: set[Client] = set()

    @initialize(
        limit=st.sampled_from([None, 4 * GIB, 6 * GIB]), max_loaded=st.sampled_from([0, 0, 1, 2])
    )
    def start(self, limit: int | None, max_loaded: int) -> None:
        policy = msgspec.structs.replace(POLICY, memory_limit_bytes=limit, max_loaded=max_loaded)

        def begin() -> None:
            for number, its_policy in enumerate((policy, POLICY)):
                self.workers.append(Worker(number, self.machine, its_policy))

        self.do(begin)

    def do(self, *steps: Callable[[], object]) -> None:
        async def run() -> None:
            for step in steps:
                step()
                await settle()

        self.run(run())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    def teardown(self) -> None:
        try:
            if self.workers:
                self.run(self._end())
            assert not self.machine.alive, "a process is left behind"
            assert not self.machine.entries(), "memory is booked for nothing"
            assert not self.machine.faults, self.machine.faults
        finally:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.wait(left))
            self.loop.close()

    async def _end(self) -> None:
        """All goes well again: each worker serves once more, and ends."""
        self.machine.others_bytes, self.machine.stalled = 0, Stall()
        for worker in self.workers:
            worker.launcher.start_error = None
            for client in worker.clients:
                client.release()
        for worker in self.workers:
            await self._serves_again(worker)
        for worker in self.workers:
            worker.close(hurry=False)
        await settle()
        await self.machine.clock.tick(2 * POLICY.stop_grace_s)
        for worker in self.workers:
            await asyncio.gather(*(c.task for c in worker.clients), *worker.unloads)
            await worker.open

    async def _serves_again(self, worker: Worker) -> None:
        model = next(iter(worker.entries), None)
        if model is None:
            return
        for _ in range(100):
            worker.going.update(worker.entries)
            for pinned in worker.entries:
                worker.unloads.append(asyncio.create_task(worker.models.unload(pinned)))
            await settle()
            last = Client(worker, model, None)
            last.release()
            while not last.task.done():
                for engine in self.loading:
                    engine.finish_load()
                await self.machine.clock.tick(1)
            if last.error is None:
                return
        raise AssertionError(f"{model} is never served again: {last.error}")

    # What the rules choose from.

    @property
    def clients(self) -> list[tuple[Worker, Client]]:
        return [(worker, client) for worker in self.workers for client in worker.clients]

    @property
    def waiting(self) -> list[tuple[Worker, Client]]:
        return [(worker, client) for worker, client in self.clients if client.waits]

    @property
    def holding(self) -> list[tuple[Worker, Client]]:
        return [(worker, client) for worker, client in self.clients if client.lease is not None]

    @property
    def loading(self) -> list[MachineEngine]:
        return [engine for engine in self.machine.alive if not engine.loading.done()]

    def worker_of(self, model: str) -> Worker:
        return self.workers[next(n for n, models in enumerate(MODELS) if model in models)]

    # Clients.

    @rule(model=models_, keep_alive_s=keep_alives, n=st.sampled_from([1, 1, 1, 2, 5]))
    def ask(self, model: str, keep_alive_s: float | None, n: int) -> None:
        worker = self.worker_of(model)
        self.do(
            lambda: worker.clients.extend(Client(worker, model, keep_alive_s) for _ in range(n))
        )

    @rule(first=models_, second=models_)
    def ask_for_two_at_once(self, first: str, second: str) -> None:
        def both() -> None:
            for model in (first, second):
                worker = self.worker_of(model)
                worker.clients.append(Client(worker, model, None))

        self.do(both)

    @rule(model=models_, stays=st.booleans())
    def use(self, model: str, stays: bool) -> None:
        """Ask, and let everything load that wants to."""
        worker = self.worker_of(model)
        client: list[Client] = []
        self.do(lambda: client.append(Client(worker, model, None)), *[self._loads_end] * 3)
        worker.clients.extend(client)
        if not stays:
            self.do(client[0].release)

    def _loads_end(self) -> None:
        for engine in self.loading:
            engine.finish_load()

    @precondition(lambda self: self.holding)
    @rule(choice=choices)
    def release(self, choice: int) -> None:
        self.do(self.holding[choice % len(self.holding)][1].release)

    @precondition(lambda self: self.holding)
    @rule()
    def release_all(self) -> None:
        self.do(*(client.release for _, client in self.holding))

    @precondition(lambda self: self.waiting)
    @rule(choice=choices, n_steps=st.integers(0, 3))
    def a_waiter_leaves(self, choice: int, n_steps: int) -> None:
        self.run(self._leave(*self.waiting[choice % len(self.waiting)], n_steps))

    @precondition(lambda self: self.holding)
    @rule(choice=choices)
    def a_holder_leaves(self, choice: int) -> None:
        self.run(self._leave(*self.holding[choice % len(self.holding)], 0))

    async def _leave(self, worker: Worker, client: Client, n_steps: int) -> None:
        for _ in range(n_steps):
            await asyncio.sleep(0)
        client.task.cancel()
        await asyncio.wait({client.task})
        worker.clients.remove(client)
        await settle()

    # Engines.

    @precondition(lambda self: self.loading)
    @rule(choice=choices, fraction=st.sampled_from([0.2, 0.5, 0.9]))
    def a_load_goes_on(self, choice: int, fraction: float) -> None:
        engine = self.loading[choice % len(self.loading)]
        self.do(lambda: engine.progress(fraction))

    @precondition(lambda self: self.loading)
    @rule(choice=choices)
    def a_load_ends(self, choice: int) -> None:
        self.do(self.loading[choice % len(self.loading)].finish_load)

    @precondition(lambda self: self.loading)
    @rule()
    def all_loads_end(self) -> None:
        self.do(self._loads_end)

    @precondition(lambda self: self.loading and self.waiting)
    @rule(choice=choices, n_steps=st.integers(0, 4))
    def a_load_ends_as_a_waiter_leaves(self, choice: int, n_steps: int) -> None:
        self.loading[choice % len(self.loading)].finish_load()
        self.run(self._leave(*self.waiting[choice % len(self.waiting)], n_steps))

    @precondition(lambda self: self.loading)
    @rule(choice=choices, shortage=st.sampled_from(["memory", "page_file", ""]))
    def a_load_fails(self, choice: int, shortage: Any) -> None:
        error = out_of_memory("stub", shortage) if shortage else BackendLoadFailed("bad layer")
        engine = self.loading[choice % len(self.loading)]
        self.do(lambda: engine.fail_load(error))

    @precondition(lambda self: self.machine.alive)
    @rule(choice=choices, signal_name=st.sampled_from(["SIGKILL", "SIGSEGV"]))
    def an_engine_dies(self, choice: int, signal_name: str) -> None:
        engine = self.machine.alive[choice % len(self.machine.alive)]
        self.do(lambda: engine.die(signal_name))

    @precondition(lambda self: self.machine.alive)
    @rule()
    def the_kernel_kills_the_largest(self) -> None:
        self.do(max(self.machine.alive, key=lambda engine: engine.taken_bytes).die)

    @precondition(lambda self: self.machine.alive)
    @rule(choice=choices)
    def an_engine_leaks(self, choice: int) -> None:
        self.machine.alive[choice % len(self.machine.alive)].taken_bytes += GIB

    @precondition(lambda self: self.machine.alive)
    @rule(choice=choices)
    def an_engine_ignores_the_stop(self, choice: int) -> None:
        self.machine.alive[choice % len(self.machine.alive)].ignores_stop = True

    @rule()
    def slow_stops_end(self) -> None:
        stopping = [engine for engine in self.machine.alive if engine.n_stops]
        self.do(*(engine.kill for engine in stopping))

    @rule(number=st.sampled_from([0, 1]), works=st.sampled_from([True, True, False]))
    def processes_cannot_be_started(self, number: int, works: bool) -> None:
        error = None if works else OSError(12, "Cannot allocate memory")
        self.workers[number].launcher.start_error = error

    # The machine.

    @rule(n_bytes=st.sampled_from([0, 2 * GIB, 4 * GIB, 8 * GIB]))
    def other_programs_hold(self, n_bytes: int) -> None:
        self.machine.others_bytes = n_bytes

    @rule(full=st.sampled_from([0.0, 0.0, 0.5]), some=st.sampled_from([0.0, 0.5]))
    def memory_is_waited_for(self, full: float, some: float) -> None:
        self.machine.stalled = Stall(some, full)

    @rule(delta_s=st.sampled_from([0.5, 1.0, 3.0, 10.0, 35.0, 70.0]))
    def time_passes(self, delta_s: float) -> None:
        self.run(self.machine.clock.tick(delta_s))

    # People.

    @rule(model=models_, force=st.sampled_from([False, False, True]))
    def unload(self, model: str, force: bool) -> None:
        worker = self.worker_of(model)
        if model not in worker.entries:
            return
        worker.going.add(model)
        work = worker.models.unload(model, force=force)
        self.do(lambda: worker.unloads.append(self.loop.create_task(work)))

    @rule(model=models_, keep_alive_s=keep_alives)
    def load(self, model: str, keep_alive_s: float | None) -> None:
        worker = self.worker_of(model)

        async def by_hand() -> ServingError | None:
            try:
                await worker.models.load(model, keep_alive_s=keep_alive_s)
            except ServingError as error:
                return error
            return None

        self.do(lambda: worker.unloads.append(self.loop.create_task(by_hand())))

    @rule(model=models_, version=st.integers(0, 3))
    def files_change(self, model: str, version: int) -> None:
        """Or go, or come back."""
        worker = self.worker_of(model)
        worker.going.add(model)
        fingerprint = f"fp_{version:016}"
        worker.entries[model] = entry(model, size_bytes=SIZES[model], fingerprint=fingerprint)
        if not version:
            del worker.entries[model]
            worker.gone.add(model)
        self.run(self._rescan(worker))

    async def _rescan(self, worker: Worker) -> None:
        await worker.models.rescan()
        await settle()

    @rule(number=st.sampled_from([0, 1]), hurry=st.booleans())
    def a_worker_restarts(self, number: int, hurry: bool) -> None:
        old = self.workers[number]

        def renew() -> None:
            self.workers[number] = Worker(number, self.machine, old.policy)

        async def restart() -> None:
            old.close(hurry=hurry)
            await self.machine.clock.tick(POLICY.drain_s + 2 * POLICY.stop_grace_s)
            await settle()
            assert all(client.task.done() for client in old.clients if client.waits)
            for client in old.clients:
                client.release()
            await asyncio.gather(*(c.task for c in old.clients), *old.unloads, old.open)
            renew()
            await settle()

        self.run(restart())

    # What always holds.

    def snapshots(self) -> list[tuple[Worker, ModelSnapshot]]:
        return [
            (worker, snapshot)
            for worker in self.workers
            for snapshot in worker.models.snapshot()
            if snapshot.entry.id not in worker.gone
        ]

    @invariant()
    def nothing_was_noticed_on_the_way(self) -> None:
        assert not self.machine.faults, self.machine.faults

    @invariant()
    def no_more_is_booked_than_allowed(self) -> None:
        for worker in self.workers:
            holdings, policy = worker.models.holdings(self.machine.machine()), worker.policy
            assert holdings.booked_bytes <= (policy.memory_limit_bytes or TOTAL_BYTES)
            assert worker.models.n_booked <= (policy.max_loaded or len(SIZES))

    @invariant()
    def the_ledger_says_what_is_booked(self) -> None:
        for number, worker in enumerate(self.workers):
            page = self.machine.pages.get(number)
            written = page.entries if page is not None else ()
            assert (
                sum(e.booked_bytes for e in written)
                == worker.models.holdings(self.machine.machine()).booked_bytes
            )
        booked = {entry.model: entry.booked_bytes for entry in self.machine.entries()}
        for _, snapshot in self.snapshots():
            assert booked.get(snapshot.entry.id, 0) == snapshot.booked_bytes

    @invariant()
    def each_process_belongs_to_one_booked_model(self) -> None:
        booked = Counter(entry.model for entry in self.machine.entries())
        alive = Counter(engine.entry.id for engine in self.machine.alive)
        assert alive <= booked
        gone = set().union(*(worker.gone for worker in self.workers))
        assert all(n == 1 or model in gone for model, n in alive.items())

    @invariant()
    def leases_are_on_ready_models_and_counted(self) -> None:
        for worker, snapshot in self.snapshots():
            held = [c.lease for c in worker.clients if c.model == snapshot.entry.id and c.lease]
            alive = [lease for lease in held if lease.engine.exit is None]
            assert snapshot.n_leases >= len(alive)
            assert not alive or snapshot.state not in LOADING

    @invariant()
    def no_waiter_is_lost(self) -> None:
        now_s = self.machine.clock.monotonic()
        for worker, snapshot in self.snapshots():
            waiting = [c for c in worker.clients if c.waits and c.model == snapshot.entry.id]
            assert snapshot.n_waiting >= len(waiting)
            assert not (waiting and snapshot.state in AT_REST), "waits for what does nothing"
            for client in waiting:
                assert now_s - client.since_s <= MOST_WAIT_S, f"waits in {snapshot.state}"

    @invariant()
    def who_waits_knows_what_for(self) -> None:
        for worker, snapshot in self.snapshots():
            reason = "load" if snapshot.state in LOADING else "queue"
            heard = [c.heard for c in worker.clients if c.waits and c.model == snapshot.entry.id]
            assert {waiting.reason for waiting in heard if waiting} <= {reason}
            places = [waiting.position for waiting in heard if waiting]
            assert None not in heard
            assert places == sorted(set(places)), "two have the same place"

    @invariant()
    def only_what_is_true_is_said(self) -> None:
        for worker, client in self.clients:
            if not client.task.done() or client.task.cancelled():
                continue
            assert client.task.exception() is None
            if client.error is not None and client not in self.judged:
                self.judged.add(client)
                assert "failed to manage" not in client.error.message
                if client.error.metadata.get("reason") in REFUSALS:
                    assert not self._could_fit(worker, client.model), client.error

    def _could_fit(self, worker: Worker, model: str) -> bool:
        """Whether there would be room if all that may go were gone."""
        pinned = [s for s in worker.models.snapshot() if s.pinned]
        kept = sum(max(s.booked_bytes, self.machine.process(s.pid).anonymous_bytes) for s in pinned)
        machine = TOTAL_BYTES - HEADROOM_BYTES - self.machine.others_bytes - kept
        budget = (worker.policy.memory_limit_bytes or TOTAL_BYTES) - kept
        in_count = not worker.policy.max_loaded or len(pinned) < worker.policy.max_loaded
        return in_count and SIZES[model] // SHARE_OF_SMALLER <= min(machine, budget)


TestLifecycle = LifecycleMachine.TestCase
TestLifecycle.settings = settings(
    # 2,000 take minutes of the suite; they are for changes to lifecycle and memory.
    max_examples=600,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestLifecycle.pytestmark = [pytest.mark.timeout(600)]  # type: ignore[attr-defined]
