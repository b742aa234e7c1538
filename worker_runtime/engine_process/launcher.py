"""Starts engine processes, one of them before a model is known: the standby.

Python and its libraries take a third of a second to start, which the first answer of a model would
wait for. A standby has done that. It holds no model, no file of one and no GPU, and like any engine
process it ends when its worker does. When it dies, the next load starts a process as without it.
"""

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from typing import NamedTuple

from worker_runtime.aio import to_the_end
from worker_runtime.catalog import ModelEntry
from worker_runtime.engine_process.client import PING_EVERY_S, EngineClient
from worker_runtime.engine_process.windows_job import WindowsJob
from worker_runtime.memory.probe import MemoryProbe
from worker_runtime.settings import engine_environment

PIPE_BUFFER_BYTES = 1024 * 1024

log = logging.getLogger(__name__)


class ProcessLauncher:
    """Starts `python -m entry.engine_module`.

    Args:
        environment: variables for an entry's backend; they are added to this process's own, from
            which secrets are removed.
        ping_every_s: seconds between two pings to a process that has calls.
        standby: the module and the backend of most models, for which a process can wait.
    """

    def __init__(
        self,
        probe: MemoryProbe,
        environment: Callable[[str], Mapping[str, str]] = lambda backend: {},
        ping_every_s: float = PING_EVERY_S,
        standby: tuple[str, str] | None = None,
    ) -> None:
        self._probe = probe
        self._ping_every_s = ping_every_s
        self._environment = environment
        self._job = WindowsJob()
        self._prepared = None if standby is None else self._command(*standby)
        self._waiting: Process | None = None

    async def start(self, entry: ModelEntry) -> EngineClient:
        command = self._command(entry.engine_module, entry.backend)
        if command != self._prepared:
            # Loads count the memory of the standby as free.
            await self.end_standby()
        process = self._take_standby() or await self._started(command)
        return EngineClient(process, entry.id, self._probe, self._ping_every_s)

    @property
    def standby_pid(self) -> int:
        """The process that waits for a model; 0 if none does."""
        return 0 if self._waiting is None or _has_ended(self._waiting) else self._waiting.pid

    async def prepare_standby(self) -> None:
        """Let a process wait for a model, if none does and there may be one.

        Raises:
            OSError: the operating system did not start the process.
        """
        if self._prepared is not None and not self.standby_pid:
            self._waiting = await self._started(self._prepared)

    async def end_standby(self) -> None:
        """End the process that waits, and return when its memory is free."""
        if (process := self._take_standby()) is not None:
            _kill(process)
            await to_the_end(process.wait(), on_cancel=lambda: _kill(process))

    def _take_standby(self) -> Process | None:
        process, self._waiting = self._waiting, None
        return None if process is None or _has_ended(process) else process

    def _command(self, module: str, backend: str) -> "_Command":
        return _Command(module, engine_environment(self._environment(backend)))

    async def _started(self, command: "_Command") -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", command.module),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=command.environment,
            limit=PIPE_BUFFER_BYTES,
        )
        try:
            self._job.add(process.pid)
        except OSError:
            # The process still ends when its stdin closes, unless native code hangs.
            log.warning("process %d was not added to the job object", process.pid, exc_info=True)
        return process


class _Command(NamedTuple):
    """What an engine process is started with; it can serve models for which that is the same."""

    module: str
    environment: Mapping[str, str]


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _has_ended(process: Process) -> bool:
    return process.returncode is not None
