"""However the supervisor is started, whatever becomes of its terminal, in whatever way it is told:
it ends, and all of its processes with it.

Each way is a line for the shell, as people write it; all run at once, each over stub services.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

if sys.platform == "win32":
    pytest.skip("terminals and shells of POSIX systems", allow_module_level=True)

import pty

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 60
CTRL_C, CTRL_S = b"\x03", b"\x13"
STACK = (sys.executable, "-m", "tests.unit.cli.stub_stack")
# The shell leads its session, so that the first terminal it opens controls it.
IN_TERMINAL = 'exec "$@" <$TTY >$TTY 2>&1'
NOHUP = "trap '' HUP; "


class Started:
    """A stack in its shell, with a terminal at hand.

    Args:
        shell: the line; "$@" is the stack's command, $TTY the terminal.
        modes: of the stub services, as `name=mode`.
    """

    def __init__(self, folder: Path, shell: str, modes: tuple[str, ...]) -> None:
        self.folder = folder
        self._terminal, device = pty.openpty()
        self.shell = subprocess.Popen(
            ["sh", "-c", shell, "sh", *STACK, str(folder), *modes],
            cwd=ROOT,
            env={"PATH": os.defpath, "TTY": os.ttyname(device)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Held open until the stack has it: a terminal without any is hung up.
        until(lambda: self.pid is not None or self.shell.poll() is not None, "the stack starts")
        os.close(device)

    @property
    def pid(self) -> int | None:
        path = self.folder / "supervisor.pid"
        text = path.read_text() if path.exists() else ""
        return int(text) if text else None

    def events(self) -> str:
        path = self.folder / "events"
        return path.read_text() if path.exists() else ""

    def left(self) -> list[psutil.Process]:
        """The supervisor and its services, as far as they still run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                program, *words = process.cmdline() or [""]
                if program == sys.executable and str(self.folder) in words:
                    found.append(process)
        return found

    # What may happen to it.

    def serving(self) -> None:
        until(lambda: self.events().count("answered") == 3, f"all answer: {self.events()}")

    def starting(self) -> None:
        until(lambda: "started" in self.events(), "a service starts")

    def asked(self) -> None:
        until(lambda: "asked" in self.events(), "a service is asked to end")

    def a_while(self) -> None:
        """Long enough for a chatty service to fill a pipe or a terminal several times."""
        time.sleep(1)

    def close_terminal(self) -> None:
        os.close(self._terminal)
        self._terminal = -1

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def send(self, number: signal.Signals) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)

    def stop_reader(self) -> None:
        readers = [p for p in psutil.Process(self.shell.pid).children() if p.name() == "cat"]
        assert readers
        for reader in readers:
            reader.suspend()

    def close(self) -> None:
        if self._terminal >= 0:
            os.close(self._terminal)
        # The supervisor first, or it starts the others again.
        for process in sorted(self.left(), key=lambda process: process.pid):
            process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait(WITHIN_S)


Act = Callable[[Started], None]


def send(*numbers: signal.Signals) -> Act:
    def act(stack: Started) -> None:
        for number in numbers:
            stack.send(number)

    return act


def type_keys(keys: bytes) -> Act:
    return lambda stack: stack.type(keys)


@dataclass(frozen=True)
class Way:
    """
    Args:
        acts: in order; the last must end the stack.
        status: what the shell then exits with; None: it is another process's.
    """

    name: str
    shell: str
    acts: tuple[Act, ...]
    modes: tuple[str, ...] = ()
    status: int | None = 0


serving, starting, asked = Started.serving, Started.starting, Started.asked
a_while, close_terminal, stop_reader = Started.a_while, Started.close_terminal, Started.stop_reader
INT, TERM, HUP, KILL = (
    send(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
)
CHATTY = ("left=chatty",)
STUBBORN = ("front=stubborn", "left=stubborn")
SLOW = ("front=slow", "left=slow")
WAYS = [
    Way("its terminal is closed", IN_TERMINAL, (serving, close_terminal)),
    Way("its terminal is closed while it starts", IN_TERMINAL, (starting, close_terminal), SLOW),
    Way(
        "its terminal is closed while a service prints",
        IN_TERMINAL,
        (serving, close_terminal),
        CHATTY,
    ),
    Way(
        "its shell's terminal is closed",
        '"$@" <$TTY >$TTY 2>&1; exit 7',
        (serving, close_terminal),
        status=None,
    ),
    Way(
        "nohup, its terminal is closed, SIGTERM",
        NOHUP + IN_TERMINAL,
        (serving, close_terminal, a_while, TERM),
        CHATTY,
    ),
    Way(
        "nohup, its terminal is closed, SIGINT",
        NOHUP + IN_TERMINAL,
        (serving, close_terminal, a_while, INT),
        CHATTY,
    ),
    Way(
        "its terminal is closed and nothing said so, SIGTERM",
        'exec "$@" >$TTY 2>&1',
        (serving, close_terminal, TERM),
        CHATTY,
    ),
    Way("nobody reads its terminal, SIGTERM", IN_TERMINAL, (serving, a_while, TERM), CHATTY),
    Way(
        "nobody reads its terminal, Ctrl-C",
        IN_TERMINAL,
        (serving, a_while, type_keys(CTRL_C)),
        CHATTY,
    ),
    Way("Ctrl-S, then SIGTERM", IN_TERMINAL, (serving, type_keys(CTRL_S), a_while, TERM), CHATTY),
    Way(
        "Ctrl-C twice",
        IN_TERMINAL,
        (serving, type_keys(CTRL_C), asked, type_keys(CTRL_C)),
        STUBBORN,
    ),
    Way(
        "a pipe nobody reads, SIGTERM",
        '"$@" 2>&1 | sleep 600',
        (serving, a_while, TERM),
        CHATTY,
        None,
    ),
    Way(
        "a pipe nobody reads, SIGINT",
        '"$@" 2>&1 | sleep 600',
        (serving, a_while, INT),
        CHATTY,
        None,
    ),
    Way(
        "a pipe nobody reads, SIGHUP twice",
        '"$@" 2>&1 | sleep 600',
        (serving, HUP, asked, HUP),
        (*STUBBORN, "right=chatty"),
        None,
    ),
    Way(
        "a reader that stopped, SIGTERM",
        '"$@" 2>&1 | cat',
        (serving, stop_reader, a_while, TERM),
        CHATTY,
        None,
    ),
    Way("| head -1, SIGINT", '"$@" 2>&1 | head -1', (serving, a_while, INT), CHATTY, None),
    Way("stdout closed, SIGTERM", 'exec "$@" >&-', (serving, TERM), CHATTY),
    Way("all three closed, SIGHUP", 'exec "$@" <&- >&- 2>&-', (serving, HUP), CHATTY),
    Way("a full disk, SIGTERM", 'exec "$@" >/dev/full 2>&1', (serving, TERM), CHATTY),
    Way("SIGTERM while it starts", 'exec "$@"', (starting, TERM), SLOW),
    Way(
        "SIGINT and SIGTERM at once while it starts",
        'exec "$@"',
        (starting, send(signal.SIGINT, signal.SIGTERM)),
        SLOW,
    ),
    Way("three signals in a row", 'exec "$@"', (serving, INT, asked, HUP, TERM), STUBBORN),
    Way(
        "it is killed while nobody reads",
        '"$@" 2>&1 | sleep 600',
        (serving, a_while, KILL),
        CHATTY,
        None,
    ),
]
# Every start, every signal that asks to end, and every state of the services, with each other.
STARTS = (
    ("in a terminal", IN_TERMINAL, 0),
    ("in the background", '"$@" & wait $!', 0),
    ("behind a pipe", '"$@" 2>&1 | cat', None),
)
TOLD = (("SIGINT", INT), ("SIGTERM", TERM), ("SIGHUP", HUP))
STATES = (
    ("serving", serving, ()),
    ("starting", starting, SLOW),
    ("printing", serving, CHATTY),
)
WAYS += [
    Way(f"{start}, {state}, {told}", shell, (until_then, tell), modes, status)
    for start, shell, status in STARTS
    for told, tell in TOLD
    for state, until_then, modes in STATES
]


def until(holds: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.05)


def go(way: Way, folder: Path) -> str:
    """Why the way did not end as it must; empty if it did."""
    stack = Started(folder, way.shell, way.modes)
    try:
        for act in way.acts:
            act(stack)
        until(lambda: not stack.left(), "it ends with all of its processes")
        if way.status is not None:
            assert stack.shell.wait(WITHIN_S) == way.status
    except (AssertionError, psutil.NoSuchProcess) as problem:
        return f"{problem}\n{stack.events()}"
    finally:
        stack.close()
    return ""


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folders = [tmp_path_factory.mktemp("way") for _ in WAYS]
    with ThreadPoolExecutor(8) as pool:
        return dict(zip((way.name for way in WAYS), pool.map(go, WAYS, folders), strict=True))


@pytest.mark.parametrize("name", [way.name for way in WAYS])
def test_it_ends_with_all_of_its_processes(name: str, problems: dict[str, str]) -> None:
    assert not problems[name]
