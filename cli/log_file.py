"""Keeps what the stack prints in a file, for `y26hkx logs`; the standard library alone."""

import contextlib
import os
from pathlib import Path

from cli.output import Sink

# Of the file, and of the one before it.
MOST_BYTES = 4 << 20


def log_file(folder: Path, port: int) -> Path:
    """The file of the server on this port."""
    return folder / "logs" / f"serve-{port}.log"


class KeptLines:
    """Writes what goes to `sink` to a file, too. Where that cannot be written, only `sink` has it.

    Args:
        secret: lines with it are not kept; empty: all are.
    """

    def __init__(self, sink: Sink, path: Path, secret: str = "") -> None:
        self._sink = sink
        self._path = path
        self._secret = secret.encode()
        self._file = -1
        self._n_bytes = 0

    def write(self, data: memoryview) -> int | None:
        try:
            n_taken = self._sink.write(data)
        except (OSError, ValueError):
            # Nobody reads the terminal any more: then the file is what there is.
            self._keep(bytes(data))
            raise
        if n_taken:
            self._keep(bytes(data[:n_taken]))
        return n_taken

    def _keep(self, data: bytes) -> None:
        if self._secret and self._secret in data:
            return
        with contextlib.suppress(OSError):
            if self._file < 0 or self._n_bytes > MOST_BYTES:
                self._open()
            self._n_bytes += os.write(self._file, data)

    def _open(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self._path.with_suffix(".old.log"))
        # For this user only: prompts are never logged, but addresses and models are.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self._file, self._n_bytes = os.open(self._path, flags, 0o600), 0
