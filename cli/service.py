"""One service under supervision: started again when it dies or no longer answers."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cli.backoff import Backoff, RestartPolicy
from cli.child import Child, Relay

State = Literal["running", "restarting", "breaker_open", "given_up"]


@dataclass(frozen=True)
class ServiceSpec:
    """What to run, and how to check whether it answers.

    Args:
        name: shown before each line that it prints.
        command: its argv.
        env: its whole environment.
        answers: raises OSError or TimeoutError while it does not answer; None: it is not checked.
        drain_s: time in which it may end its work when it is asked to stop.
        essential: the stack is useless without it, and ends if it never came up.
        gets_conditions: it reads the conditions of all services from its stdin, a line of JSON for
            each change.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    answers: Callable[[], Awaitable[object]] | None
    drain_s: float
    essential: bool = False
    gets_conditions: bool = False


@dataclass(frozen=True)
class Condition:
    """The condition of a service, as `/health/detailed` reports it.

    Args:
        state: restarting: it waits for its next start; breaker_open: it waits for a long time,
            because it keeps crashing; given_up: it is not started again.
        n_restarts: how often it died and was scheduled for a restart.
        reason: how it ended the last time, and its last printed line; empty if it never ended.
        next_start_in_s: seconds from this change; None if no start is scheduled.
    """

    state: State = "restarting"
    n_restarts: int = 0
    reason: str = ""
    next_start_in_s: float | None = 0.0


@dataclass(frozen=True)
class WatchPolicy:
    """When a process that runs but does not answer is killed.

    Args:
        every_s: time between two checks while it answers.
        again_s: time until the next check after one that failed.
        silent_s: it is killed when its last answer is this long ago.
        first_within_s: time for the first answer, since a slow start is no hang.
    """

    every_s: float = 5.0
    again_s: float = 0.5
    silent_s: float = 15.0
    first_within_s: float = 120.0


# Time until the next check of a process that is starting.
LOOK_AGAIN_S = 0.1
# If a check seems to take longer, the machine slept, or all processes were stopped.
LONGEST_QUESTION_S = 6.0
# The exit status of our processes for invalid settings.
WRONG_SETTINGS = 2
# A killed process is soon gone; the event loop must not end before it has noticed.
GONE_WITHIN_S = 5.0


class StackFailed(Exception):
    """The stack cannot go on.

    Args:
        exit_status: of the whole stack.
    """

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@dataclass(frozen=True)
class Ending:
    """How a process ended; `code` is None if it could not be started."""

    code: int | None
    words: str
    last_line: str = ""

    def __str__(self) -> str:
        return f"{self.words}: {self.last_line}" if self.last_line else self.words


class Service:
    """Keeps one process running until it is stopped.

    Args:
        print_line: prints a line of the supervisor.
        write: prints whole lines of the process.
        on_change: called after `condition` has changed.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        print_line: Callable[[str], None],
        *,
        write: Callable[[bytes], None],
        on_change: Callable[[], None] = lambda: None,
        width: int,
        restart: RestartPolicy,
        watch: WatchPolicy,
    ) -> None:
        self.spec = spec
        self.condition = Condition()
        self._print_line = print_line
        self._write = write
        self._on_change = on_change
        self._width = width
        self._watch_policy = watch
        self._backoff = Backoff(restart)
        self._stopping = asyncio.Event()
        self._killed = False
        self._child: Child | None = None
        # Held while a process is being started: `stop` must not miss it.
        self._starting = asyncio.Lock()
        self.has_answered = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def keep_running(self) -> None:
        """Run the process, again and again, until `stop`, or until it is given up.

        Raises:
            StackFailed: its settings are invalid, or it is essential and does not come up.
        """
        while not self._stopping.is_set():
            began = time.monotonic()
            ending = await self._run_once()
            if self._stopping.is_set():
                return
            if ending.code == WRONG_SETTINGS and not self.has_answered.is_set():
                raise StackFailed(
                    f"{self.spec.name} cannot start with these settings; its message is above",
                    exit_status=WRONG_SETTINGS,
                )
            now = time.monotonic()
            delay_s = self._backoff.died(now, now - began)
            self._report(ending, delay_s)
            if delay_s is None:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    async def stop(self) -> None:
        """Ask the process to drain, and kill it after `drain_s`; `keep_running` then returns."""
        self._stopping.set()
        async with self._starting:
            child = self._child
        if child is None:
            return
        if self._killed:
            # `kill` was called while the process was being started.
            child.kill()
        child.ask_to_stop()
        try:
            await asyncio.wait_for(child.wait(), self.spec.drain_s)
        except TimeoutError:
            self._print_line(
                f"{self.spec.name} did not end within {self.spec.drain_s:.0f} s: killed"
            )
            child.kill()

    def kill(self) -> None:
        """End the process now."""
        self._killed = True
        self._stopping.set()
        if self._child is not None:
            self._child.kill()

    def send_line(self, line: bytes) -> None:
        """Write a line to the stdin of the process, if it runs and reads conditions."""
        if self.spec.gets_conditions and self._child is not None:
            self._child.send_line(line)

    async def _run_once(self) -> Ending:
        """Run one process to its end."""
        relay = Relay(self.spec.name, self._width, self._write)
        async with self._starting:
            if self._stopping.is_set():
                return Ending(None, "was not started")
            try:
                child = await Child.start(self.spec.command, self.spec.env, relay)
            except OSError as error:
                return Ending(None, f"cannot be started: {error}")
            self._child = child
        self._become(replace(self.condition, state="running", next_start_in_s=None))
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._watch(child))
                code = await child.wait()
                watcher.cancel()
        finally:
            self._child = None
            child.kill()
            await child.gone(GONE_WITHIN_S)
            child.release()
        words = f"was ended by signal {-code}" if code < 0 else f"exited with status {code}"
        return Ending(code, words, relay.last_line)

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
        self._print_line(f"{self.spec.name} (pid {child.pid}) does not answer: killed")
        child.kill()

    def _report(self, ending: Ending, delay_s: float | None) -> None:
        name, n_restarts = self.spec.name, self.condition.n_restarts
        if delay_s is None:
            self._become(Condition("given_up", n_restarts, str(ending), None))
            if self.spec.essential:
                raise StackFailed(f"{name} keeps crashing and is given up; its output is above")
            self._print_line(f"*** {name} {ending.words} and is given up: see its output above ***")
            return
        self._print_line(f"{name} {ending.words}; starting it again in {delay_s:.1f} s")
        is_open = self._backoff.is_open
        if is_open and self.spec.essential and not self.has_answered.is_set():
            raise StackFailed(f"{name} does not come up; its output is above")
        state: State = "breaker_open" if is_open else "restarting"
        self._become(Condition(state, n_restarts + 1, str(ending), delay_s))
        if is_open:
            self._print_line(f"*** {name} keeps crashing: see its output above ***")

    def _become(self, condition: Condition) -> None:
        self.condition = condition
        self._on_change()
