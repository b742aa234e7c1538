"""The supervisor as a real process over stub services."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 30
NAMES = ("front", "left", "right")
WINDOWS = sys.platform == "win32"
STOP: int = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)


class StubStack:
    """A supervisor, what its services noted, and what it printed."""

    def __init__(self, folder: Path, **modes: str) -> None:
        self._folder = folder
        self._out = (folder / "out").open("wb")
        chosen = [f"{name}={mode}" for name, mode in modes.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.cli.stub_stack", str(folder), *chosen],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=not WINDOWS,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def events(self) -> list[tuple[str, str, int]]:
        """(service, event, pid) in order."""
        path = self._folder / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, event, int(pid)) for name, event, pid in map(str.split, lines)]

    def pids(self, name: str, event: str = "started") -> list[int]:
        return [pid for who, what, pid in self.events() if (who, what) == (name, event)]

    def told(self) -> dict[str, dict[str, Any]]:
        """What the supervisor told the front service last."""
        path = self._folder / "front.told"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        services: dict[str, dict[str, Any]] = json.loads(whole[-1])["services"] if whole else {}
        return services

    def output(self) -> str:
        return (self._folder / "out").read_text()

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < deadline, f"{what}: {self.events()}\n{self.output()}"
            time.sleep(0.02)

    def until_up(self) -> None:
        self.until(
            lambda: all(f"{name} says hello" in self.output() for name in NAMES), "all are up"
        )

    def stop(self) -> int:
        self.process.send_signal(STOP)
        return self.process.wait(WITHIN_S)

    def close(self) -> None:
        for pid in {self.process.pid, *(pid for _, _, pid in self.events())}:
            if psutil.pid_exists(pid) and psutil.Process(pid).name().startswith("python"):
                psutil.Process(pid).kill()
        self.process.wait(WITHIN_S)
        self._out.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., StubStack]]:
    started: list[StubStack] = []

    def begin(**modes: str) -> StubStack:
        started.append(StubStack(tmp_path, **modes))
        return started[-1]

    yield begin
    for stack in started:
        stack.close()


def test_a_dead_service_is_started_again_and_the_others_are_left_alone(
    start: Callable[..., StubStack],
) -> None:
    stack = start()
    stack.until_up()
    psutil.Process(stack.pids("left")[0]).kill()
    stack.until(lambda: len(stack.pids("left")) == 2, "left is back")
    assert len(stack.pids("front")) == len(stack.pids("right")) == 1
    assert stack.stop() == 0
    assert "starting it again" in stack.output()


def test_the_first_signal_drains_the_gateway_before_its_workers(
    start: Callable[..., StubStack],
) -> None:
    stack = start()
    stack.until_up()
    assert stack.stop() == 0
    order = [
        (name, event) for name, event, _ in stack.events() if event not in ("started", "answered")
    ]
    assert order[:2] == [("front", "asked"), ("front", "ended")]
    assert sorted(order[2:]) == [(n, e) for n in ("left", "right") for e in ("asked", "ended")]


@pytest.mark.skipif(WINDOWS, reason="the parent's SIGINT cannot be sent there to one group")
def test_ctrl_c_drains_as_well(start: Callable[..., StubStack]) -> None:
    stack = start()
    stack.until_up()
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(WITHIN_S) == 0
    assert stack.pids("right", "ended")


def test_a_second_signal_kills_what_does_not_end(start: Callable[..., StubStack]) -> None:
    stack = start(front="stubborn")
    stack.until_up()
    stack.process.send_signal(STOP)
    stack.until(lambda: bool(stack.pids("front", "asked")), "front was asked")
    assert stack.stop() == 0
    assert not stack.pids("front", "ended")
    assert not any(psutil.pid_exists(pid) for _, _, pid in stack.events())


def test_a_killed_supervisor_leaves_no_process_behind(start: Callable[..., StubStack]) -> None:
    stack = start(right="stubborn")
    stack.until_up()
    services = [psutil.Process(pid) for name in NAMES for pid in stack.pids(name)]
    stack.process.kill()
    _, alive = psutil.wait_procs(services, timeout=WITHIN_S)
    assert not alive
    assert stack.pids("left", "ended"), "the others were allowed to drain"


def test_a_service_that_no_longer_answers_is_killed_and_started_again(
    start: Callable[..., StubStack],
) -> None:
    stack = start()
    stack.until_up()
    stack.until(lambda: bool(stack.pids("left", "answered")), "left has answered")
    psutil.Process(stack.pids("left")[0]).suspend()
    stack.until(lambda: len(stack.pids("left")) == 2, "left is back")
    assert "left (pid" in stack.output()
    assert len(stack.pids("front")) == 1
    assert stack.stop() == 0


def test_a_service_that_never_answers_is_killed_too(start: Callable[..., StubStack]) -> None:
    stack = start(left="mute")
    stack.until(lambda: len(stack.pids("left")) > 1, "left was started again")
    assert len(stack.pids("right")) == 1


def test_a_crash_loop_is_said_loudly_and_the_rest_serves_on(
    start: Callable[..., StubStack],
) -> None:
    stack = start(left="crash")
    stack.until(lambda: "left keeps crashing" in stack.output(), "the alarm")
    stack.until(lambda: "right says hello" in stack.output(), "right is up")
    assert stack.process.poll() is None
    assert stack.stop() == 0


def test_the_stack_gives_up_when_its_gateway_never_comes_up(
    start: Callable[..., StubStack],
) -> None:
    stack = start(front="crash")
    assert stack.process.wait(WITHIN_S) == 1
    assert "front does not come up" in stack.output()
    assert not any(psutil.pid_exists(pid) for _, _, pid in stack.events())


def test_every_line_says_who_printed_it(start: Callable[..., StubStack]) -> None:
    stack = start()
    stack.until_up()
    stack.stop()
    senders = {line.split(" | ")[0].strip() for line in stack.output().splitlines()}
    assert senders == {"y26hkx", *NAMES}


def test_settings_that_mean_nothing_end_the_start_and_are_complained_of_once(
    start: Callable[..., StubStack],
) -> None:
    stack = start(left="misset", front="slow")
    assert stack.process.wait(WITHIN_S) == 2
    assert stack.output().count("left: WORD: is not what it should be") == 1
    assert stack.output().count("left cannot start with these settings") == 1
    assert "starting it again" not in stack.output()
    assert not any(psutil.pid_exists(pid) for _, _, pid in stack.events())


def test_what_crashes_again_and_again_is_given_up_and_the_rest_serves_on(
    start: Callable[..., StubStack],
) -> None:
    stack = start(left="crash")
    stack.until(lambda: "left exited with status 1 and is given up" in stack.output(), "given up")
    # Three deaths open the breaker, from which three starts are tried.
    assert len(stack.pids("left")) == 6
    assert len(stack.pids("right")) == len(stack.pids("front")) == 1
    assert stack.stop() == 0


def test_the_gateway_is_told_how_all_services_are_and_why(start: Callable[..., StubStack]) -> None:
    stack = start(left="crash")
    stack.until(lambda: stack.told().get("left", {}).get("state") == "given_up", "it is told")
    told = stack.told()
    assert told["left"]["reason"] == "exited with status 1: it cannot be"
    assert told["left"]["n_restarts"] == 5
    assert told["right"]["state"] == "running"
    psutil.Process(stack.pids("front")[0]).kill()
    stack.until(lambda: len(stack.pids("front")) == 2, "the gateway is back")
    stack.until(lambda: stack.told()["front"]["n_restarts"] == 1, "the new one is told too")
    assert stack.stop() == 0
