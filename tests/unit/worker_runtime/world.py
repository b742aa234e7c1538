"""Models with time, memory and processes in the test's hands."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.fakes import (
    FakeClock,
    FakeLauncher,
    FakeProbe,
    settle,
)
from worker_runtime.catalog import Catalog, ModelEntry, Scan
from worker_runtime.lifecycle.load_options import LoadOption, LoadOptions
from worker_runtime.lifecycle.manager import LifecyclePolicy, Models
from worker_runtime.lifecycle.snapshot import ModelSnapshot, ModelState
from worker_runtime.memory.need import Need
from worker_runtime.off_loop import OffLoop, at_once

IDLE_S = 60.0


def with_context(entry: ModelEntry, n_ctx: int) -> ModelEntry:
    return msgspec.structs.replace(entry, context_length=n_ctx, fingerprint=f"fp_{n_ctx}")


class World:
    def __init__(
        self,
        policy: LifecyclePolicy,
        *,
        auto: bool,
        entries: list[ModelEntry],
        load_options: LoadOptions,
        off_loop: OffLoop = at_once,
    ) -> None:
        self.clock = FakeClock()
        self.launcher = FakeLauncher(auto=auto)
        self.probe = FakeProbe()
        self.entries = entries
        self.catalog = Catalog(
            lambda: Scan(self.entries, self.entries[0].id if self.entries else ""),
            ttl_s=1e9,
            clock=self.clock,
        )
        self.models = Models(
            self.catalog,
            policy,
            self.launcher,
            self.clock,
            self.probe,
            load_options=load_options,
            with_context=with_context,
            off_loop=off_loop,
        )

    def model(self, model: str = "a") -> ModelSnapshot:
        return next(s for s in self.models.snapshot() if s.entry.id == model)

    def state(self, model: str = "a") -> ModelState:
        return self.model(model).state

    async def use(self, model: str = "a", keep_alive_s: float | None = None) -> int:
        async with self.models.lease(model, keep_alive_s=keep_alive_s) as lease:
            return lease.engine.pid

    @contextlib.asynccontextmanager
    async def held(self, model: str = "a") -> AsyncIterator[asyncio.Task[None]]:
        """A lease held by another task until the end of the block."""
        ready, done = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with self.models.lease(model):
                ready.set()
                await done.wait()

        task = asyncio.create_task(hold())
        await ready.wait()
        try:
            yield task
        finally:
            done.set()
            await task
            await settle()


@contextlib.asynccontextmanager
async def world(
    *,
    auto: bool = True,
    entries: list[ModelEntry] | None = None,
    spare_bytes: int = 0,
    load_options: LoadOptions | None = None,
    off_loop: OffLoop = at_once,
    **policy: object,
) -> AsyncIterator[World]:
    numbers = {"idle_timeout_s": IDLE_S} | policy

    def option(entry: ModelEntry) -> tuple[LoadOption]:
        return (LoadOption(entry, Need(weights=entry.size_bytes, spare=spare_bytes)),)

    found = entries if entries is not None else [entry("a"), entry("b"), entry("c")]
    made = World(
        LifecyclePolicy(**numbers),  # type: ignore[arg-type]
        auto=auto,
        entries=found,
        load_options=load_options or option,
        off_loop=off_loop,
    )
    async with made.models:
        yield made
        for engine in made.launcher.alive:
            engine.ignores_stop = False
        await made.models.close(hurry=True)
        assert not made.launcher.alive


async def waiter(made: World, model: str = "a") -> asyncio.Task[int]:
    task = asyncio.create_task(made.use(model))
    await settle()
    return task
