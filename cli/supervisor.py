"""Keeps the stack's services running and ends them in order.

The first Ctrl-C, SIGTERM, SIGBREAK or SIGHUP drains: the services of the first stage end their
work and exit, then those of the next. A second one kills what is left.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

from cli.backoff import RestartPolicy
from cli.service import NeverStarted, Service, ServiceSpec, WatchPolicy

NAME = "y26hkx"
_RESTART = RestartPolicy()
_WATCH = WatchPolicy()


class Supervisor:
    """Runs services until a signal says stop.

    Args:
        stages: who is stopped first, second, …; all are started together.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[ServiceSpec]],
        *,
        restart: RestartPolicy = _RESTART,
        watch: WatchPolicy = _WATCH,
    ) -> None:
        width = max(len(spec.name) for stage in stages for spec in stage)
        self._width = max(width, len(NAME))
        self.stages = [
            [
                Service(spec, self.say, width=self._width, restart=restart, watch=watch)
                for spec in stage
            ]
            for stage in stages
        ]
        self._stopping = asyncio.Event()

    def say(self, text: str) -> None:
        """Print a line of the supervisor's own."""
        try:
            sys.stdout.write(f"{NAME:<{self._width}} | {text}\n")
            sys.stdout.flush()
        except (BrokenPipeError, ValueError):
            # Nobody reads any more; that is no reason to stop serving.
            return

    async def run(self, beside: Callable[[], Awaitable[None]]) -> int:
        """Serve until told to stop; the exit status. `beside` runs along and is then cancelled."""
        self._listen(asyncio.get_running_loop())
        status = 0
        try:
            async with asyncio.TaskGroup() as group:
                side = group.create_task(_as_task(beside))
                for stage in self.stages:
                    for service in stage:
                        group.create_task(service.keep_running(), name=service.spec.name)
                await self._stopping.wait()
                side.cancel()
                await self._drain()
        except* NeverStarted as failures:
            for failure in failures.exceptions:
                self.say(str(failure))
            status = 1
        self.say("stopped")
        return status

    async def _drain(self) -> None:
        for stage in self.stages:
            self.say("stopping " + ", ".join(service.spec.name for service in stage))
            async with asyncio.TaskGroup() as group:
                for service in stage:
                    group.create_task(service.stop())

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        def received(number: int, _: object) -> None:
            # Python runs this between two bytecodes: only the loop may touch its objects.
            loop.call_soon_threadsafe(self._told_to_stop, number)

        for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP"):
            if number := getattr(signal, name, None):
                # Not loop.add_signal_handler, which Windows has not.
                signal.signal(number, received)

    def _told_to_stop(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._stopping.is_set():
            self.say(f"{name}: stopping when the running requests have ended; again to stop now")
            self._stopping.set()
            return
        self.say(f"{name} again: killing")
        for stage in self.stages:
            for service in stage:
                service.kill()


async def _as_task(beside: Callable[[], Awaitable[None]]) -> None:
    await beside()
