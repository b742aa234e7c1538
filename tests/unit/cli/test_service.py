"""One supervised service whose machine misbehaves."""

import asyncio
import os
import sys
import time

import pytest

from cli import service
from cli.backoff import RestartPolicy
from cli.service import Service, ServiceSpec, WatchPolicy

A_NIGHT_S = 8 * 3600.0
SILENT_S = 15.0

pytestmark = pytest.mark.timeout(30)


class LeapingTime:
    """Its clock leaps as one does over which a machine slept."""

    leapt_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.leapt_s


async def test_a_machine_that_slept_kills_no_service_that_answers_when_it_wakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, n_asked, woken = LeapingTime(), 0, asyncio.Event()
    monkeypatch.setattr(service, "time", clock)

    async def answers() -> None:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 2:
            clock.leapt_s = A_NIGHT_S
            raise TimeoutError
        if n_asked == 3:
            woken.set()

    spec = ServiceSpec(
        name="sleeper",
        command=[sys.executable, "-c", "input()"],
        env=dict(os.environ),  # noqa: TID251 - the test is the outermost caller
        answers=answers,
        drain_s=5.0,
    )
    watch = WatchPolicy(every_s=0.01, again_s=0.01, silent_s=SILENT_S)
    said: list[str] = []
    sleeper = Service(
        spec,
        said.append,
        write=lambda lines: None,
        width=8,
        restart=RestartPolicy(),
        watch=watch,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sleeper.keep_running())
        await woken.wait()
        pid = sleeper.pid
        assert pid is not None
        sleeper.kill()
        await running
    assert said == []
