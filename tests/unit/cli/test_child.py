"""One process of a service: how its end is told."""

import os
import signal
import sys
import threading
import time

import psutil
import pytest

from cli.child import Child, Relay

if sys.platform == "win32":
    pytest.skip("signals of POSIX systems", allow_module_level=True)

pytestmark = pytest.mark.timeout(30)


def until_ended(pid: int) -> None:
    """Wait without the event loop, which would collect the exit status."""
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


async def test_a_process_that_ends_just_before_it_is_asked_to_keeps_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, collect = threading.Event(), os.waitpid

    def collect_when_asked(pid: int, options: int) -> tuple[int, int]:
        assert asked.wait(10)
        return collect(pid, options)

    monkeypatch.setattr(os, "waitpid", collect_when_asked)
    child = await Child.start(["sleep", "60"], {}, Relay("sleeper", 7, lambda lines: None))
    child.kill()
    until_ended(child.pid)
    child.ask_to_stop()
    asked.set()
    assert await child.wait() == -signal.SIGKILL
    child.release()
    # The event loop says so if another collected the status.
    assert not caplog.records
