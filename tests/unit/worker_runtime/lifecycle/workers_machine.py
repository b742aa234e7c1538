"""A Hypothesis state machine of two workers on one fake machine: its begin, steps and end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from tests.unit.worker_runtime.fake_machine import GIB, FakeMachine, MachineEngine
from tests.unit.worker_runtime.fake_workers import MODELS, POLICY, Client, Worker
from tests.unit.worker_runtime.fakes import settle
from worker_runtime.memory.pressure import Stall


class WorkersMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.machine = FakeMachine()
        self.workers: list[Worker] = []

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
