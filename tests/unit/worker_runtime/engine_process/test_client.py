"""Real engine processes that misbehave, and what callers of the pipe see of it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import msgspec
import psutil
import pytest

from common.errors import BackendLoadFailed, InvalidRequest, Overloaded, WorkerLost
from tests.unit.worker_runtime.entries import entry
from tests.unit.worker_runtime.stub_engine import StubCall, StubEvent, StubFacts, StubSpec
from worker_runtime.engine_process import inflight, protocol
from worker_runtime.engine_process.client import PING_EVERY_S, EngineClient
from worker_runtime.engine_process.launcher import ProcessLauncher
from worker_runtime.memory.probe import SystemMemoryProbe

BOUND_S = 30
GRACE_S = 0.3

pytestmark = pytest.mark.timeout(60)


def nothing(fraction: float, stage: str) -> None:
    pass


@contextlib.asynccontextmanager
async def started(
    spec: StubSpec | None = None, ping_every_s: float = PING_EVERY_S
) -> AsyncIterator[EngineClient]:
    launcher = ProcessLauncher(SystemMemoryProbe(), ping_every_s=ping_every_s)
    async with asyncio.timeout(BOUND_S):
        engine = await launcher.start(entry(spec=spec))
        try:
            yield engine
        finally:
            engine.kill()
            await engine.wait()


@contextlib.asynccontextmanager
async def loaded(
    spec: StubSpec | None = None, ping_every_s: float = PING_EVERY_S
) -> AsyncIterator[EngineClient]:
    async with started(spec, ping_every_s) as engine:
        await engine.load(protocol.raw(spec or StubSpec()), nothing)
        yield engine


async def exhaust(events: AsyncIterator[msgspec.Raw]) -> None:
    async for _ in events:
        pass


def event(body: msgspec.Raw) -> StubEvent:
    return msgspec.msgpack.decode(body, type=StubEvent)


async def test_a_loaded_engine_answers_and_stops_with_code_zero() -> None:
    spec = StubSpec(steps=3, print_noise=True)
    progress = []
    async with started(spec) as engine:
        facts = await engine.load(
            protocol.raw(spec), lambda fraction, stage: progress.append(stage)
        )
        assert msgspec.msgpack.decode(facts, type=StubFacts).pid == engine.pid
        assert progress == ["step 0", "step 1", "step 2"]
        assert engine.resident_bytes() > 0
        numbers = [event(body).number async for body in engine.call(StubCall(5))]
        assert numbers == [0, 1, 2, 3, 4]
        assert event(await engine.unary(StubCall())).number == 0
        report = await engine.stop(5)
        assert (report.code, report.signal, report.wanted) == (0, "", True)
        assert report.peak_resident_bytes > 0
        assert "a library prints to stdout" in report.stderr_tail
        assert engine.resident_bytes() == 0


async def test_an_engine_that_sheds_holds_less_and_answers_on() -> None:
    async with loaded(StubSpec(allocate_mib=64)) as engine:
        before = engine.resident_bytes()
        engine.shed()
        # It reads the pipe in order.
        await engine.unary(StubCall())
        assert before - engine.resident_bytes() > 60 << 20


async def test_an_error_of_the_engine_reaches_its_caller_after_the_events() -> None:
    async with loaded() as engine:
        failing = engine.call(StubCall(2, fail=True))
        assert [event(await anext(failing)).number for _ in range(2)] == [0, 1]
        with pytest.raises(InvalidRequest) as caught:
            await anext(failing)
        assert caught.value.param == "body"


async def test_many_calls_share_one_pipe_and_never_mix() -> None:
    async with loaded() as engine:

        async def numbers(n: int) -> list[int]:
            return [event(body).number async for body in engine.call(StubCall(n, size=n))]

        counts = list(range(1, 40))
        assert await asyncio.gather(*map(numbers, counts)) == [list(range(n)) for n in counts]


async def test_leaving_a_call_early_cancels_it_in_the_engine() -> None:
    async with loaded() as engine:
        async with contextlib.aclosing(engine.call(StubCall(never_end=True))) as events:
            await anext(events)
        reply = event(await engine.unary(StubCall()))
        assert reply.cancelled == [1]


async def test_a_cancelled_caller_cancels_its_call() -> None:
    async with loaded() as engine:
        waiting = asyncio.create_task(engine.unary(StubCall(never_end=True)))
        reply = event(await engine.unary(StubCall()))
        assert reply.cancelled == []
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(event(await engine.unary(StubCall())).cancelled) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
async def test_a_killed_process_fails_every_open_call_with_the_signal() -> None:
    async with loaded() as engine:
        calls = [engine.call(StubCall(never_end=True)) for _ in range(3)]
        for call in calls:
            await anext(call)
        os.kill(engine.pid, signal.SIGKILL)
        for call in calls:
            with pytest.raises(WorkerLost, match="signal 9 SIGKILL") as caught:
                await anext(call)
            assert caught.value.retry_after_s == 1
        assert engine.exit is not None
        assert engine.exit.shortage == "killed"
        with pytest.raises(WorkerLost):
            await engine.unary(StubCall())


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
async def test_a_stopped_process_is_ended_so_that_its_calls_fail_and_the_next_load_works() -> None:
    async with loaded(ping_every_s=0.1) as engine:
        call = engine.call(StubCall(never_end=True))
        await anext(call)
        os.kill(engine.pid, signal.SIGSTOP)
        with pytest.raises(WorkerLost):
            await anext(call)
        assert engine.exit is not None


async def test_a_process_that_computes_for_long_answers_pings_and_lives() -> None:
    async with loaded(ping_every_s=0.02) as engine:
        # Silent for ten times as long as a process may be that does not answer.
        numbers = [event(body).number async for body in engine.call(StubCall(2, event_s=1.2))]
        assert numbers == [0, 1]


async def test_a_process_whose_main_thread_hangs_is_ended_though_it_answers_pings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with loaded(StubSpec(front_limit_s=0.1), ping_every_s=0.1) as engine:
        other = engine.call(StubCall(never_end=True))
        await anext(other)
        with pytest.raises(WorkerLost):
            await engine.unary(StubCall(hang_front=True))
        with pytest.raises(WorkerLost):
            await anext(other)
        assert engine.exit is not None
    assert "is stuck (front, overdue by" in caplog.text


async def test_a_process_of_which_a_watched_thread_hangs_is_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with loaded(ping_every_s=0.1) as engine:
        with pytest.raises(WorkerLost):
            await engine.unary(StubCall(hang_watched=True))
    assert "is stuck (stub, overdue by" in caplog.text


async def test_a_load_may_take_longer_than_a_command() -> None:
    spec = StubSpec(front_limit_s=0.05, steps=10, step_s=0.05)
    async with loaded(spec, ping_every_s=0.05) as engine:
        assert event(await engine.unary(StubCall())).number == 0


async def test_an_engine_that_exits_by_itself_is_lost_with_its_code() -> None:
    async with loaded() as engine:
        with pytest.raises(WorkerLost, match="exit code 7"):
            await engine.unary(StubCall(exit_code=7))


async def test_a_slow_reader_does_not_hold_up_others_and_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inflight, "MAX_WAITING_EVENTS", 100)
    async with loaded() as engine:
        slow = engine.call(StubCall(5000, never_end=True))
        await anext(slow)
        # Its thread sends all of its events meanwhile.
        while not event(await engine.unary(StubCall())).cancelled:
            pass
        with pytest.raises(Overloaded):
            await asyncio.wait_for(exhaust(slow), BOUND_S)


async def test_events_that_wait_are_taken_together_and_before_the_error() -> None:
    calls = inflight.InflightCalls()
    call_id, call = calls.open()
    for number in range(3):
        assert calls.event(protocol.Event(call_id, protocol.raw(number)))
    calls.all_ended(lambda: WorkerLost("gone"))
    assert [msgspec.msgpack.decode(body) for body in await call.take()] == [0, 1, 2]
    with pytest.raises(WorkerLost):
        await call.take()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP there")
async def test_a_process_that_does_not_react_is_killed_in_the_end() -> None:
    async with loaded() as engine:
        os.kill(engine.pid, signal.SIGSTOP)
        # The signal takes effect some time later.
        while psutil.Process(engine.pid).status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110
            await asyncio.sleep(0)
        report = await engine.stop(GRACE_S)
        assert report.signal == "SIGKILL"
        assert report.shortage is None


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM handlers there")
async def test_a_process_that_ignores_stop_and_sigterm_is_killed() -> None:
    async with loaded(StubSpec(ignore_stop=True, ignore_sigterm=True)) as engine:
        assert (await engine.stop(GRACE_S)).signal == "SIGKILL"


async def test_stop_ends_a_load_that_hangs() -> None:
    spec = StubSpec(hang=True)
    async with started(spec) as engine:
        reached = asyncio.Event()
        loading = asyncio.create_task(
            engine.load(protocol.raw(spec), lambda fraction, stage: reached.set())
        )
        await reached.wait()
        assert (await engine.stop(BOUND_S)).code == 0
        with pytest.raises(WorkerLost):
            await loading


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (StubSpec(raises="MemoryError"), "not enough memory"),
        (StubSpec(raises="RuntimeError", text="CUDA out of memory. Tried"), "not enough memory"),
        (StubSpec(raises="OSError", text="paging file too small (1455)"), "not enough memory"),
        (StubSpec(raises="ValueError", text="secret native text"), "ValueError"),
        (StubSpec(refuses="no such layer"), "no such layer"),
    ],
)
async def test_a_failed_load_says_why_without_native_text(spec: StubSpec, text: str) -> None:
    async with started(spec) as engine:
        with pytest.raises(BackendLoadFailed, match=text) as caught:
            await engine.load(protocol.raw(spec), nothing)
        assert "secret" not in str(caught.value)
        await engine.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_an_engine_whose_worker_is_killed_during_the_load_does_not_stay() -> None:
    script = (
        "import asyncio, sys\n"
        "from tests.unit.worker_runtime.entries import entry\n"
        "from tests.unit.worker_runtime.stub_engine import StubSpec\n"
        "from worker_runtime.engine_process import protocol\n"
        "from worker_runtime.engine_process.launcher import ProcessLauncher\n"
        "from worker_runtime.memory.probe import SystemMemoryProbe\n"
        "async def main():\n"
        "    engine = await ProcessLauncher(SystemMemoryProbe()).start(entry())\n"
        "    say = lambda fraction, stage: print(engine.pid, flush=True)\n"
        "    await engine.load(protocol.raw(StubSpec(hang=True)), say)\n"
        "asyncio.run(main())\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert worker.stdout is not None
    engine = psutil.Process(int(worker.stdout.readline()))
    worker.kill()
    worker.wait(BOUND_S)
    worker.stdout.close()
    _, alive = psutil.wait_procs([engine], timeout=BOUND_S)
    assert not alive
