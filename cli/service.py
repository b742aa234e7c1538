"""One service under supervision: started again when it dies or no longer answers."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cli.backoff import Backoff, RestartPolicy
from cli.child import Child, Relay


@dataclass(frozen=True)
class ServiceSpec:
    """What to run and how to ask whether it lives.

    Args:
        name: shown before each line it prints.
        command: its argv.
        env: its whole environment.
        answers: raises OSError or TimeoutError while it does not answer; None: not asked.
        drain_s: it gets this long to end its work when asked to stop.
        essential: nothing works without it: if it never came up, the stack gives up.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    answers: Callable[[], Awaitable[object]] | None
    drain_s: float
    essential: bool = False


@dataclass(frozen=True)
class WatchPolicy:
    """When a process that runs but does not answer is killed.

    Args:
        every_s: time between two questions while it answers.
        again_s: time until it is asked again when it did not.
        silent_s: it is killed when its last answer is this long ago.
        first_within_s: time for the first answer: a slow start is no hang.
    """

    every_s: float = 5.0
    again_s: float = 0.5
    silent_s: float = 15.0
    first_within_s: float = 120.0


# How soon a process that is starting is asked again.
LOOK_AGAIN_S = 0.1
# More time than that did not pass in asking: the machine slept, or all of us were stopped.
LONGEST_QUESTION_S = 6.0


class NeverStarted(Exception):
    """An essential service crashed again and again without ever answering."""


class Service:
    """Keeps one process running until told to stop."""

    def __init__(
        self,
        spec: ServiceSpec,
        say: Callable[[str], None],
        *,
        width: int,
        restart: RestartPolicy,
        watch: WatchPolicy,
    ) -> None:
        self.spec = spec
        self._say = say
        self._width = width
        self._watch_policy = watch
        self._backoff = Backoff(restart)
        self._stopping = asyncio.Event()
        self._child: Child | None = None
        # Held while a process is being started: `stop` must not miss it.
        self._starting = asyncio.Lock()
        self.has_answered = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def keep_running(self) -> None:
        """Run the process, again and again, until `stop`.

        Raises:
            NeverStarted: it is essential and does not come up.
        """
        while not self._stopping.is_set():
            began = time.monotonic()
            ending = await self._run_once()
            if self._stopping.is_set():
                return
            now = time.monotonic()
            delay_s = self._backoff.died(now, now - began)
            self._report(ending, delay_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    async def stop(self) -> None:
        """Let the process drain, kill it if it takes too long; `keep_running` then returns."""
        self._stopping.set()
        async with self._starting:
            child = self._child
        if child is None:
            return
        child.ask_to_stop()
        try:
            await asyncio.wait_for(child.wait(), self.spec.drain_s)
        except TimeoutError:
            self._say(f"{self.spec.name} did not end within {self.spec.drain_s:.0f} s: killed")
            child.kill()

    def kill(self) -> None:
        """End it now."""
        self._stopping.set()
        if self._child is not None:
            self._child.kill()

    async def _run_once(self) -> str:
        """Run one process to its end; how it ended, in words."""
        relay = Relay(self.spec.name, self._width)
        async with self._starting:
            if self._stopping.is_set():
                return "was not started"
            try:
                child = await Child.start(self.spec.command, self.spec.env, relay)
            except OSError as error:
                return f"cannot be started: {error}"
            self._child = child
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._watch(child))
                code = await child.wait()
                watcher.cancel()
        finally:
            self._child = None
            child.kill()
            child.release()
        return f"was ended by signal {-code}" if code < 0 else f"exited with status {code}"

    async def _watch(self, child: Child) -> None:
        if self.spec.answers is None:
            return
        policy = self._watch_policy
        silent_s, limit_s, again_s = 0.0, policy.first_within_s, LOOK_AGAIN_S
        while silent_s < limit_s:
            asked = time.monotonic()
            try:
                await self.spec.answers()
            except (OSError, TimeoutError):
                await asyncio.sleep(again_s)
                silent_s += min(time.monotonic() - asked, LONGEST_QUESTION_S)
            else:
                silent_s, limit_s, again_s = policy.every_s, policy.silent_s, policy.again_s
                self.has_answered.set()
                await asyncio.sleep(policy.every_s)
        self._say(f"{self.spec.name} (pid {child.pid}) does not answer: killed")
        child.kill()

    def _report(self, ending: str, delay_s: float) -> None:
        self._say(f"{self.spec.name} {ending}; starting it again in {delay_s:.1f} s")
        if not self._backoff.is_crash_loop:
            return
        if self.spec.essential and not self.has_answered.is_set():
            raise NeverStarted(f"{self.spec.name} does not come up; what it said is above")
        self._say(f"*** {self.spec.name} keeps crashing: look at what it prints above ***")
