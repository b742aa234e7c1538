"""Keeps the stack's services running and ends them in order.

The first Ctrl-C, SIGTERM, SIGBREAK or SIGHUP drains: the services of the first stage end their
work and exit, then those of the next. A second one kills what is left. Nothing that is printed is
waited for: a terminal that is gone, or a reader that stopped, holds up neither.
"""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict

from cli.backoff import RestartPolicy
from cli.output import Output
from cli.service import Service, ServiceSpec, StackFailed, WatchPolicy

NAME = "y26hkx"
_RESTART = RestartPolicy()
_WATCH = WatchPolicy()


class Supervisor:
    """Runs services until a signal says stop.

    Args:
        stages: who is stopped first, second, …; all are started together.
        output: takes everything that is printed.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[ServiceSpec]],
        output: Output,
        *,
        restart: RestartPolicy = _RESTART,
        watch: WatchPolicy = _WATCH,
    ) -> None:
        width = max(len(spec.name) for stage in stages for spec in stage)
        self._width = max(width, len(NAME))
        self._output = output
        self.stages = [
            [
                Service(
                    spec,
                    self.say,
                    write=output.write,
                    on_change=self._tell,
                    width=self._width,
                    restart=restart,
                    watch=watch,
                )
                for spec in stage
            ]
            for stage in stages
        ]
        self._stopping = asyncio.Event()

    def say(self, text: str) -> None:
        """Print a line of the supervisor's own."""
        self._output.write(f"{NAME:<{self._width}} | {text}\n".encode(errors="backslashreplace"))

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
        except* StackFailed as failures:
            # Where several fail together, they do so for one cause.
            failure = failures.exceptions[0]
            assert isinstance(failure, StackFailed)
            self.say(str(failure))
            status = failure.exit_status
        self.say("stopped")
        for number in _stop_signals():
            # One more would make a failure of an end that is complete.
            signal.signal(number, signal.SIG_IGN)
        return status

    async def _drain(self) -> None:
        for stage in self.stages:
            self.say("stopping " + ", ".join(service.spec.name for service in stage))
            async with asyncio.TaskGroup() as group:
                for service in stage:
                    group.create_task(service.stop())

    def _tell(self) -> None:
        """Tell those that want to know how all services are."""
        services = [service for stage in self.stages for service in stage]
        told = {service.spec.name: asdict(service.condition) for service in services}
        for service in services:
            service.tell(json.dumps({"services": told}).encode() + b"\n")

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        def received(number: int, _: object) -> None:
            # Python runs this between two bytecodes: only the loop may touch its objects.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._told_to_stop, number)

        for number in _stop_signals():
            # Not loop.add_signal_handler, which Windows has not.
            signal.signal(number, received)

    def _told_to_stop(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._stopping.is_set():
            self._stopping.set()
            self.say(f"{name}: stopping when the running requests have ended; again to stop now")
            return
        for stage in self.stages:
            for service in stage:
                service.kill()
        self.say(f"{name} again: killing")


def _stop_signals() -> Iterator[int]:
    for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP"):
        number = getattr(signal, name, None)
        # `nohup` has SIGHUP ignored: the stack is to outlive its terminal.
        if number is None:
            continue
        # `nohup` has SIGHUP ignored: the stack is to outlive its terminal.
        if name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
            yield number


async def _as_task(beside: Callable[[], Awaitable[None]]) -> None:
    await beside()
