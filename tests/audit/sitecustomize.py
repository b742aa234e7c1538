"""Notes whom a Python process calls, what it starts and which files it writes.

With this folder on PYTHONPATH every Python process loads it at its start, and its children do too.
Notes are lines of JSON in the folder AUDIT_FOLDER, a file for each process.
"""

import json
import os
import sys
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Which of an event's arguments are the paths that it changes.
CHANGES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.utime": (0,),
    "sqlite3.connect": (0,),
}
CALLS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}
STARTS = ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system")


def watch(folder: str) -> None:
    notes: dict[int, int] = {}

    def note(what: str, value: object) -> None:
        # After a fork the process is another one.
        pid = os.getpid()
        if pid not in notes:
            # It comes back as an event of its own, which says nothing new.
            notes[pid] = -1
            path = os.path.join(folder, f"{pid}.jsonl")
            notes[pid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if notes[pid] >= 0:
            line = json.dumps([sys.orig_argv[1:], what, _readable(value)])
            os.write(notes[pid], line.encode() + b"\n")

    def hook(event: str, args: tuple[Any, ...]) -> None:
        for path in _changed(event, args):
            # A number is a file that is open already.
            if isinstance(path, str | bytes):
                note("write", os.path.abspath(os.fsdecode(path)))
        if event in CALLS:
            note("call", args[CALLS[event]])
        elif event in STARTS:
            note("start", args[0])

    note("begin", "")
    sys.addaudithook(hook)


def _changed(event: str, args: tuple[Any, ...]) -> list[Any]:
    if event == "open":
        path, _, flags = args
        return [path] if isinstance(flags, int) and flags & WRITES else []
    return [args[index] for index in CHANGES.get(event, ())]


def _readable(value: object) -> object:
    """Of an address the host or the path."""
    first = value[0] if isinstance(value, tuple) and value else value
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)


if found := os.environ.get("AUDIT_FOLDER"):  # noqa: TID251 - it runs before everything of ours
    watch(found)
