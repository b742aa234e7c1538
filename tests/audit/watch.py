"""Watches a tree of processes: Python's own by an audit hook, all code by a library before libc."""

import ipaddress
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Outside the watched folder; no file there stays, or is anybody's.
HARMLESS = ("/dev/", "/proc/self/")


@dataclass(frozen=True)
class Note:
    """
    Args:
        kind: the module that the process runs, or else its command line.
        what: begin, call (a host), start (a program) or write (a path).
    """

    kind: str
    what: str
    value: str


class Watch:
    """
    Args:
        folder: all that the processes may write to; their home in it must stay empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.caches = folder / "cache"
        for path in (self.home, self.caches, folder / "temp", folder / "notes"):
            path.mkdir()
        self._shim = _native_shim(folder)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the first process; the others inherit them."""
        preloaded = {"LD_PRELOAD": str(self._shim)} if self._shim else {}
        return {
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AUDIT_FOLDER": str(self.folder / "notes"),
            "NATIVE_CALLS": str(self.folder / "native"),
            "HOME": str(self.home),
            "TMPDIR": str(self.folder / "temp"),
            "XDG_CACHE_HOME": str(self.caches),
            **preloaded,
        }

    def notes(self) -> list[Note]:
        return [note for path in (self.folder / "notes").iterdir() for note in _read(path)]

    def called(self) -> set[str]:
        """Hosts that Python code asked for or connected to."""
        return {note.value for note in self.notes() if note.what == "call"}

    def called_natively(self) -> set[str] | None:
        """Hosts that any code did; None where it cannot be watched."""
        path = self.folder / "native"
        if self._shim is None:
            return None
        lines = path.read_text().splitlines() if path.exists() else []
        return {line.split(" ", 1)[1] for line in lines}

    def written_elsewhere(self) -> set[Note]:
        """Files outside the folder; to make sure that it is there writes nothing."""
        inside = (f"{self.folder}/", *HARMLESS)
        written = {
            note for note in self.notes() if note.what == "write" and note.value != str(self.folder)
        }
        return {note for note in written if not note.value.startswith(inside)}


def is_this_machine(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A path is a Unix socket.
        return host == "localhost" or host.startswith("/")
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _read(path: Path) -> Iterator[Note]:
    for line in path.read_text().splitlines():
        arguments, what, value = json.loads(line)
        module = arguments[arguments.index("-m") + 1] if "-m" in arguments else ""
        yield Note(module or " ".join(arguments), what, value)


def _native_shim(folder: Path) -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library, source = folder / "native_calls.so", HERE / "native_calls.c"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library
