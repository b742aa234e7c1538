"""The whole stack as real processes, for tests and benchmarks: start, look at, hurt, stop."""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import openai
import psutil

from worker_runtime.machine.kernel_memory import FILE, KernelMemory

ROOT = Path(__file__).resolve().parent.parent
GUIDE = "qwen2-y26hkx-guide"
MINILM = "all-MiniLM-L6-v2"
SERVICES = ("gateway", "chat_worker", "embed_worker")
READY_WITHIN_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningStack:
    """`y26hkx serve` on a free port, configured by environment variables only.

    Args:
        log: file that takes everything the processes print.
        through: a program with arguments that runs the stack.
        env: settings on top of a clean environment.
    """

    def __init__(self, log: Path, *, through: Sequence[str] = (), **env: str) -> None:
        self.log = log
        self._through = through
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        # What one test's loads teach must not change another's bookings, nothing is measured
        # between two requests, and every engine process has a model.
        self._env = {
            "MEMORY_LEARNT_DIR": str(log.parent),
            "BACKEND_TRIAL_IDLE_S": "0",
            "STANDBY_ENGINE": "0",
            **env,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=self.base_url, timeout=120)

    def __enter__(self) -> Self:
        if "LD_PRELOAD" not in self._env:
            know_kernels(Path(self._env["MEMORY_LEARNT_DIR"]))
        with self.log.open("wb") as log:
            self._process = self._start(log.fileno(), self._through)
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()
        self.stop()

    def _start(self, log: int, through: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """
        Args:
            log: descriptor that takes stdout and stderr.
            through: a command that runs the one behind it.
        """
        kept = {k: v for k, v in os.environ.items() if k in KEPT_VARIABLES}  # noqa: TID251 -- the test is the outermost caller
        return subprocess.Popen(
            [*through, sys.executable, "-m", "cli", "serve", "--port", str(self.port)],
            cwd=ROOT,
            env=kept | self._env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Its own group, so that only the supervisor gets our signals, as from a terminal.
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.base_url}/v1", api_key="unused", max_retries=0)

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Return when `/health/ready` says 200.

        Raises:
            RuntimeError: the supervisor ended or time is up; the log's end is in the message.
        """
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"the stack ended: {self.tail()}")
            with contextlib.suppress(httpx.TransportError):
                if self.http.get("/health/ready", timeout=2).status_code == httpx.codes.OK:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"the stack is not ready after {within_s} s: {self.tail()}")

    def tail(self, n_bytes: int = 4000) -> str:
        return self.log.read_bytes()[-n_bytes:].decode(errors="replace")

    def supervisor(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        supervisor = self.supervisor()
        return [supervisor, *supervisor.children(recursive=True)]

    def find(self, module: str) -> list[psutil.Process]:
        """The running processes started as `python -m module`."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if module in process.cmdline():
                    found.append(process)
        return found

    def one(self, module: str) -> psutil.Process:
        (process,) = self.find(module)
        return process

    def models(self) -> dict[str, dict[str, object]]:
        """What `/v1/models` says, by id."""
        return {model["id"]: model for model in self.http.get("/v1/models").json()["data"]}

    def stop(self) -> None:
        """Ask the supervisor to drain, as Ctrl-C does; kill what is left after 40 s."""
        if self._process is None or self._process.poll() is not None:
            return
        family = self.processes()
        self._process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
        try:
            self._process.wait(40)
        finally:
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def know_kernels(folder: Path) -> None:
    """Put into `folder` what the self-test says here, so that not every stack runs it."""
    if not (folder / FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(_kernels_file())


@functools.cache
def _kernels_file() -> bytes:
    environment = dict(os.environ)  # noqa: TID251 - the test is the outermost caller
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        KernelMemory(file, lambda: environment).report()
        return file.read_bytes()


def wait_until(holds: Iterator[bool], within_s: float, what: str) -> None:
    """Step through `holds` until it yields True.

    Raises:
        AssertionError: it did not within `within_s` seconds.
    """
    deadline = time.monotonic() + within_s
    for held in holds:
        if held:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.05)


# What a process needs from the machine; everything else would make tests depend on the shell.
KEPT_VARIABLES = {
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "TEMP",
    "TMP",
    "SYSTEMROOT",
    "USERPROFILE",
    "LOCALAPPDATA",
    "APPDATA",
    # How threads of torch wait for each other.
    "OMP_WAIT_POLICY",
    # Through which coverage measures the stack's processes, too.
    "COVERAGE_PROCESS_CONFIG",
}
