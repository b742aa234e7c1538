"""Reads a file from its beginning in pieces, up to a limit."""

import struct
from typing import BinaryIO

from worker_runtime.model_files.errors import InvalidModelFile

FIRST_BYTES, MOST_BYTES = 16 * 1024, 1024 * 1024
# The length before a text in GGUF.
LENGTH = struct.Struct("<Q")


class HeaderBytes:
    """The bytes of a header, taken one after the other.

    Args:
        size_bytes: size of the file.
        most_bytes: how long a header may be.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, most_bytes: int) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._most_bytes = most_bytes
        # The piece that was read last, its offset in the file, and how much of it is used up.
        self._piece = b""
        self._begin = 0
        self._used = 0
        # The first piece is small, because most headers are.
        self._next_bytes = FIRST_BYTES

    @property
    def position(self) -> int:
        return self._begin + self._used

    def take(self, n_bytes: int) -> bytes:
        """Read the next `n_bytes`.

        Raises:
            InvalidModelFile: the file, or the permitted part of it, ends before that.
        """
        if self._used + n_bytes > len(self._piece):
            self._read_on(n_bytes)
        begin = self._used
        self._used = begin + n_bytes
        return self._piece[begin : self._used]

    def skip(self, n_bytes: int) -> None:
        """Skip `n_bytes`. Raises as `take` does."""
        if self._used + n_bytes <= len(self._piece):
            self._used += n_bytes
            return
        self._check(n_bytes)
        self._begin = self.position + n_bytes
        self._file.seek(self._begin)
        self._piece, self._used = b"", 0

    def skip_texts(self, n_texts: int, most_bytes: int) -> None:
        """Skip texts, each after its length and no longer than `most_bytes`. Raises as `take`
        does."""
        # A vocabulary has 100,000 texts, so this loop takes most of the time for a header.
        unpack, piece, used = LENGTH.unpack_from, self._piece, self._used
        end = len(piece)
        for _ in range(n_texts):
            text = used + 8
            if text > end:
                self._used = used
                self._read_on(LENGTH.size)
                piece, text = self._piece, self._used + LENGTH.size
                end = len(piece)
            (length,) = unpack(piece, text - 8)
            if length > most_bytes:
                raise InvalidModelFile(f"the GGUF file claims a text of {length} bytes")
            used = text + length
            if used > end:
                self._used = text
                self.skip(length)
                piece, used = self._piece, self._used
                end = len(piece)
        self._used = used

    def _read_on(self, n_bytes: int) -> None:
        """Read until `n_bytes` are in the piece."""
        self._check(n_bytes)
        rest = self._piece[self._used :]
        fresh = self._file.read(max(n_bytes - len(rest), self._next_bytes))
        self._next_bytes = min(4 * self._next_bytes, MOST_BYTES)
        self._begin, self._used = self.position, 0
        self._piece = rest + fresh
        if len(self._piece) < n_bytes:
            # The file was cut while it was read.
            raise _cut()

    def _check(self, n_bytes: int) -> None:
        if self.position + n_bytes > self._size_bytes:
            raise _cut()
        if self.position + n_bytes > self._most_bytes:
            raise InvalidModelFile(f"the GGUF header has more than {self._most_bytes >> 20} MiB")


def _cut() -> InvalidModelFile:
    return InvalidModelFile("the GGUF file is truncated: it ends within its header")
