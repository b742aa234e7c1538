"""Reads untrusted files: regular files only, and no more bytes than permitted.

Every failure is an `InvalidModelFile` or an `OSError`, which `reason_of` puts into words. Nothing
here blocks on the other end of a pipe.
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
# If a pipe or device replaces the file between check and open, the open must not block, and a
# terminal must not become the process's own. Windows has neither these flags nor such files.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: Path) -> tuple[BinaryIO, int]:
    """Open the file at `path`; return it with its size in bytes.

    Raises:
        InvalidModelFile: it is a pipe, a device or the like.
        OSError: it does not exist, or may not be read.
    """
    # Checked before the open, which has effects on some devices.
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
    """Read a small file completely.

    Raises:
        InvalidModelFile: it is larger than `most_bytes`; else as in `open_regular`.
    """
    file, _ = open_regular(path)
    with file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise InvalidModelFile(f"{printable(path.name)} is too large")
    return content


def is_file(path: Path) -> bool:
    """Whether there is a regular file that may be seen."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def real_path(path: Path) -> str:
    """The target of links; `path` itself if they lead nowhere or vanish meanwhile."""
    try:
        return os.path.realpath(path)
    except OSError:
        return os.path.abspath(path)


def refuse_special(name: str, mode: int) -> None:
    """Check a file's kind.

    Raises:
        InvalidModelFile: `mode` is not that of a regular file.
    """
    if not stat.S_ISREG(mode):
        raise InvalidModelFile(f"{printable(name)} is {kind_of(mode)}, not a file")


def kind_of(mode: int) -> str:
    """The word for a file's kind."""
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def reason_of(error: OSError) -> str:
    """Why a file could not be read, for users: it contains the file's name, but not its folder."""
    name = printable(Path(os.fsdecode(error.filename)).name) if error.filename else "a file"
    if isinstance(error, FileNotFoundError):
        return f"{name} is missing: it was deleted, or is a link to nothing"
    if isinstance(error, PermissionError):
        return f"{name} may not be read (permission denied)"
    return f"{name} could not be read: {error.strerror or type(error).__name__}"
