"""The whole stack with a model loaded, whose terminal is closed or whose reader stopped; and one
with settings that mean nothing. `tests/unit/cli/test_told_to_stop.py` has the other ways."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.test_killed_processes import ask_again
from tests.running_stack import ROOT, RunningStack

if sys.platform == "win32":
    pytest.skip("terminals of POSIX systems", allow_module_level=True)

import pty

WITHIN_S = 60


class InTerminal(RunningStack):
    """It leads the session of a terminal, which is all that it writes to."""

    def _start(self, log: int, through: object = ()) -> subprocess.Popen[bytes]:
        self.terminal, device = pty.openpty()
        self._env["TTY"] = os.ttyname(device)
        process = super()._start(log, ("sh", "-c", 'exec "$@" <$TTY >$TTY 2>&1', "sh"))
        # A terminal that nobody has open any more is hung up: it has it once it printed.
        assert os.read(self.terminal, 1)
        os.close(device)
        return process


class IntoFullPipe(RunningStack):
    """Its reader has stopped, and there is room for not one byte."""

    def _start(self, log: int, through: object = ()) -> subprocess.Popen[bytes]:
        self.unread, full = os.pipe()
        os.set_blocking(full, False)
        try:
            while os.write(full, b"\0" * 4096):
                pass
        except BlockingIOError:
            os.set_blocking(full, True)
        process = super()._start(full)
        os.close(full)
        return process


def left_after(stack: RunningStack, end: Callable[[], None]) -> list[psutil.Process]:
    """Which processes of a stack with a loaded model still run when it should have ended."""
    assert ask_again(stack)
    assert stack.find("chat_worker.engine_process")
    processes = stack.processes()
    end()
    _, left = psutil.wait_procs(processes, timeout=WITHIN_S)
    return left


def test_a_closed_terminal_ends_it_with_all_of_its_processes(tmp_path: Path) -> None:
    with InTerminal(tmp_path / "log") as stack:
        assert left_after(stack, lambda: os.close(stack.terminal)) == []


def test_a_reader_that_stopped_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    with IntoFullPipe(tmp_path / "log") as stack:
        supervisor = stack.supervisor()
        assert left_after(stack, lambda: supervisor.send_signal(signal.SIGTERM)) == []
        os.close(stack.unread)


@pytest.mark.parametrize("setting", ["MODEL_IDLE_TIMEOUT", "GATEWAY_DRAIN_S"])
def test_settings_that_mean_nothing_end_the_start_with_status_2(setting: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "serve", "--port", "0"],
        cwd=ROOT,
        env={"PATH": os.defpath, setting: "soon"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert f": {setting}: Input should be a valid number" in done.stdout
    assert done.stdout.count("cannot start with these settings") == 1
    assert "starting it again" not in done.stdout
