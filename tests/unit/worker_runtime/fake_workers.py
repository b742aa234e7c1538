"""The workers and clients of the lifecycle's state machine, on a fake machine."""

import asyncio
from typing import Any

import msgspec

from common.errors import ServingError
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fake_machine import (
    GIB,
    HEADROOM_BYTES,
    FakeMachine,
    MachineEngine,
    MachineLauncher,
    MachineLedger,
)
from worker_runtime.catalog import Catalog, ModelEntry, Scan
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.manager import Lease, LifecyclePolicy, Models, WaitStatus
from worker_runtime.memory.need import Need
from worker_runtime.off_loop import at_once

SIZES = {"a": 2 * GIB, "b": 3 * GIB, "c": 4 * GIB, "d": 3 * GIB, "e": 5 * GIB}
# By the number of the worker that serves them.
MODELS = ("abc", "de")
SHARE_OF_SMALLER = 2
POLICY = LifecyclePolicy(
    idle_timeout_s=60,
    shed_after_s=8,
    min_remain_bytes=HEADROOM_BYTES,
    queue_wait_s=30,
    drain_s=20,
    load_timeout_s=60,
    max_waiting=4,
    backoff_most_s=20,
)


# What each model's caches take if that much is free.
SPARE_BYTES = 1 << 30


def smaller(model: ModelEntry) -> ModelEntry:
    return msgspec.structs.replace(model, size_bytes=model.size_bytes // SHARE_OF_SMALLER)


def load_options(model: ModelEntry) -> tuple[LoadOption, ...]:
    less = smaller(model)
    return (
        LoadOption(model, Need(weights=model.size_bytes, spare=SPARE_BYTES)),
        LoadOption(less, Need(weights=less.size_bytes, spare=SPARE_BYTES), ("half of it",)),
    )


class Worker:
    """One worker process: its models, until it is closed."""

    def __init__(self, number: int, machine: FakeMachine, policy: LifecyclePolicy) -> None:
        self.policy = policy
        self.entries = {model: entry(model, size_bytes=SIZES[model]) for model in MODELS[number]}
        self.clients: list[Client] = []
        self.unloads: list[asyncio.Task[Any]] = []
        # Models that may be ended while they work: somebody asked for it.
        self.going: set[str] = set()
        # Models whose files went: those end unseen, even when the files came back.
        self.gone: set[str] = set()
        self.launcher = MachineLauncher(machine, self._may_stop, self._is_in_use)
        catalog = Catalog(
            lambda: Scan(list(self.entries.values())),
            ttl_s=1e9,
            clock=machine.clock,
            off_loop=at_once,
        )
        self.models = Models(
            catalog,
            policy,
            self.launcher,
            machine.clock,
            machine,
            load_options=load_options,
            ledger=MachineLedger(machine, number),
        )
        self._closing = asyncio.Event()
        self._hurry = False
        # One task holds the models open: their task group belongs to it.
        self.open = asyncio.create_task(self._hold_open())

    async def _hold_open(self) -> None:
        async with self.models:
            await self._closing.wait()
            await self.models.close(hurry=self._hurry)

    def close(self, *, hurry: bool) -> None:
        self.going.update(self.entries)
        self._hurry = hurry
        self._closing.set()

    def _may_stop(self, engine: MachineEngine) -> bool:
        return not self._is_in_use(engine) or engine.entry.id in self.going

    def _is_in_use(self, engine: MachineEngine) -> bool:
        leases = (client.lease for client in self.clients)
        return any(lease is not None and lease.engine is engine for lease in leases)


class Client:
    """One request: waits for its lease, holds it until told to release."""

    def __init__(self, worker: Worker, model: str, keep_alive_s: float | None) -> None:
        self.model = model
        self.lease: Lease | None = None
        self.error: ServingError | None = None
        self.heard: WaitStatus | None = None
        self.since_s = worker.models.clock.monotonic()
        self._release = asyncio.Event()
        self.task = asyncio.create_task(self._run(worker.models, keep_alive_s))

    async def _run(self, models: Models, keep_alive_s: float | None) -> None:
        try:
            async with models.lease(
                self.model, keep_alive_s=keep_alive_s, on_wait=self._hear
            ) as lease:
                assert lease.engine.exit is None, "a lease on a dead process"
                self.lease = lease
                await self._release.wait()
        except ServingError as error:
            self.error = error
        finally:
            self.lease = None

    def _hear(self, waiting: WaitStatus) -> None:
        self.heard = waiting

    @property
    def waits(self) -> bool:
        return not self.task.done() and self.lease is None

    def release(self) -> None:
        self._release.set()
