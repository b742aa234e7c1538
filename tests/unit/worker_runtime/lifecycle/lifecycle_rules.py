"""What may happen to two workers, in any order: clients, engines, the machine and people act."""

import asyncio
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from common.errors import BackendLoadFailed, ServingError
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fake_machine import GIB
from tests.unit.worker_runtime.fake_workers import MODELS, POLICY, SIZES, Client, Worker
from tests.unit.worker_runtime.fakes import settle
from tests.unit.worker_runtime.lifecycle.workers_machine import WorkersMachine
from worker_runtime.engine_process.load_errors import out_of_memory
from worker_runtime.memory.pressure import Stall

models_ = st.sampled_from("".join(MODELS))
keep_alives = st.sampled_from([None, None, None, 0.0, 5.0, -1.0])
choices = st.integers(0, 99)


class LifecycleRules(WorkersMachine):
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
