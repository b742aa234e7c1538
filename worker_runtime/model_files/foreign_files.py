"""Reading files that somebody else made: regular ones only, so much and no more.

Whatever is wrong with one ends in `InvalidModelFile` or an `OSError`, for which `reason_of` has
words. Nothing here waits for the other end of a pipe.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.odd_paths import printable

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
# A pipe or device that comes between the look and the opening must not hold the thread up, and a
# terminal not become the process's own. Windows has neither flag and knows no such files.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: Path) -> tuple[BinaryIO, int]:
    """The file at `path`, opened, and its size in bytes.

    Raises:
        InvalidModelFile: it is a pipe, a device or the like.
        OSError: it is not there, or may not be read.
    """
    # Before it is opened: that alone has effects on some devices.
    refuse_special(path.name, os.stat(path).st_mode)
    descriptor = os.open(path, _FLAGS)
    try:
        state = os.fstat(descriptor)
        refuse_special(path.name, state.st_mode)
        return os.fdopen(descriptor, "rb"), state.st_size
    except BaseException:
        os.close(descriptor)
        raise


def read_at_most(path: Path, most_bytes: int) -> bytes:
    """All of a small file.

    Raises:
        InvalidModelFile: it is larger than that; else as in `open_regular`.
    """
    file, _ = open_regular(path)
    with file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise InvalidModelFile(f"{printable(path.name)} is too large")
    return content


def is_file(path: Path) -> bool:
    """Whether a regular file is there, as far as one may see."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def real_path(path: Path) -> str:
    """Where links lead to; as it is where they lead nowhere, or go while they are followed."""
    try:
        return os.path.realpath(path)
    except OSError:
        return os.path.abspath(path)


def refuse_special(name: str, mode: int) -> None:
    """
    Raises:
        InvalidModelFile: `mode` is not that of a regular file.
    """
    if not stat.S_ISREG(mode):
        raise InvalidModelFile(f"{printable(name)} is {kind_of(mode)}, not a file")


def kind_of(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def reason_of(error: OSError) -> str:
    """Why a file could not be read, fit to be shown: its name, not where it lies."""
    name = printable(Path(os.fsdecode(error.filename)).name) if error.filename else "a file"
    if isinstance(error, FileNotFoundError):
        return f"{name} is missing: it was deleted, or is a link to nothing"
    if isinstance(error, PermissionError):
        return f"{name} may not be read (permission denied)"
    return f"{name} could not be read: {error.strerror or type(error).__name__}"
