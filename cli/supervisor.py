"""Keeps the services of the stack running and ends them in order.

The first Ctrl-C, SIGTERM, SIGBREAK or SIGHUP drains: the services of the first stage end their
work and exit, then those of the next. A second one kills the services that are left. Printing never
blocks: a closed terminal or a stopped reader delays neither the services nor their end.
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
    """Runs services until a signal stops it.

    Args:
        stages: the services that are stopped first, second, …; all are started together.
        output: receives everything that is printed.
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
                    self.print_line,
                    write=output.write,
                    on_change=self._send_conditions,
                    width=self._width,
                    restart=restart,
                    watch=watch,
                )
                for spec in stage
            ]
            for stage in stages
        ]
        self._stopping = asyncio.Event()

    def print_line(self, text: str) -> None:
        """Print a line of the supervisor."""
        self._output.write(f"{NAME:<{self._width}} | {text}\n".encode(errors="backslashreplace"))

    async def run(self, beside: Callable[[], Awaitable[None]]) -> int:
        """Run the services until a stop signal, and return the exit status.

        Args:
            beside: runs at the same time, and is cancelled at the end.
        """
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
            # Services that fail at the same time have the same cause.
            failure = failures.exceptions[0]
            assert isinstance(failure, StackFailed)
            self.print_line(str(failure))
            status = failure.exit_status
        self.print_line("stopped")
        for number in _stop_signals():
            # One more signal would turn a completed end into a failure.
            signal.signal(number, signal.SIG_IGN)
        return status

    async def _drain(self) -> None:
        for stage in self.stages:
            self.print_line("stopping " + ", ".join(service.spec.name for service in stage))
            async with asyncio.TaskGroup() as group:
                for service in stage:
                    group.create_task(service.stop())

    def _send_conditions(self) -> None:
        """Send the conditions of all services to those that read them."""
        services = [service for stage in self.stages for service in stage]
        conditions = {service.spec.name: asdict(service.condition) for service in services}
        for service in services:
            service.send_line(json.dumps({"services": conditions}).encode() + b"\n")

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        def received(number: int, _: object) -> None:
            # Python runs this between two bytecodes, where the loop's objects must not be touched.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._stop_requested, number)

        for number in _stop_signals():
            # Windows has no loop.add_signal_handler.
            signal.signal(number, received)

    def _stop_requested(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._stopping.is_set():
            self._stopping.set()
            self.print_line(
                f"{name}: stopping when the running requests have ended; again to stop now"
            )
            return
        for stage in self.stages:
            for service in stage:
                service.kill()
        self.print_line(f"{name} again: killing")


def _stop_signals() -> Iterator[int]:
    for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is None:
            continue
        # `nohup` ignores SIGHUP, so that the stack outlives its terminal.
        if name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
            yield number


async def _as_task(beside: Callable[[], Awaitable[None]]) -> None:
    await beside()
