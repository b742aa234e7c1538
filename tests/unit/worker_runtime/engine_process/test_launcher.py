"""The standby: a real engine process that waits for a model."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import psutil
import pytest

from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.stub_engine import MODULE, StubCall, StubSpec
from worker_runtime.engine_process import protocol
from worker_runtime.engine_process.client import EngineClient
from worker_runtime.engine_process.launcher import ProcessLauncher
from worker_runtime.memory.probe import SystemMemoryProbe

BOUND_S = 30

pytestmark = pytest.mark.timeout(60)


@contextlib.asynccontextmanager
async def launcher() -> AsyncIterator[ProcessLauncher]:
    made = ProcessLauncher(SystemMemoryProbe(), standby=(MODULE, "stub"))
    try:
        yield made
    finally:
        await made.end_standby()


@contextlib.asynccontextmanager
async def served(made: ProcessLauncher, module: str = MODULE) -> AsyncIterator[EngineClient]:
    """A loaded model that answers."""
    engine = await made.start(msgspec.structs.replace(entry(), engine_module=module))
    try:
        await engine.load(protocol.raw(StubSpec()), lambda fraction, stage: None)
        await engine.unary(StubCall())
        yield engine
    finally:
        engine.kill()
        await engine.wait()


async def test_a_load_takes_the_process_that_waits_and_the_next_one_starts_its_own() -> None:
    async with launcher() as made:
        assert made.standby_pid == 0
        await made.prepare_standby()
        waiting = made.standby_pid
        assert waiting
        async with served(made) as first, served(made) as second:
            assert first.pid == waiting != second.pid
            assert made.standby_pid == 0


async def test_two_never_wait() -> None:
    async with launcher() as made:
        await made.prepare_standby()
        waiting = made.standby_pid
        await made.prepare_standby()
        assert made.standby_pid == waiting


async def test_a_standby_that_dies_is_harmless_and_is_replaced() -> None:
    async with launcher() as made:
        await made.prepare_standby()
        dead = psutil.Process(made.standby_pid)
        dead.kill()
        while made.standby_pid:  # noqa: ASYNC110 - the event loop has to see its end
            await asyncio.sleep(0)
        async with served(made) as engine:
            assert engine.pid != dead.pid
        await made.prepare_standby()
        assert made.standby_pid not in (0, dead.pid)


async def test_a_model_of_another_engine_ends_the_standby_whose_memory_counts_as_free() -> None:
    other = "tests.unit.worker_runtime.engine_process.another_stub_engine"
    async with launcher() as made:
        await made.prepare_standby()
        waiting = psutil.Process(made.standby_pid)
        async with served(made, other) as engine:
            assert engine.pid != waiting.pid
            assert not waiting.is_running()


async def test_without_a_module_for_it_no_process_waits() -> None:
    made = ProcessLauncher(SystemMemoryProbe())
    await made.prepare_standby()
    assert made.standby_pid == 0
