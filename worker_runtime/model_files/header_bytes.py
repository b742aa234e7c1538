"""The beginning of a file, read from front to back in pieces, and no further than it may be."""

import struct
from typing import BinaryIO

from worker_runtime.model_files.errors import InvalidModelFile

FIRST_BYTES, MOST_BYTES = 16 * 1024, 1024 * 1024
# Of a text, in GGUF.
LENGTH = struct.Struct("<Q")


class HeaderBytes:
    """
    Args:
        size_bytes: of the file.
        most_bytes: that a header may have.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, most_bytes: int) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._most_bytes = most_bytes
        # What was read last, where in the file it begins, and how much of it is used up.
        self._piece = b""
        self._begin = 0
        self._used = 0
        # Small headers are many: little is read for each.
        self._next_bytes = FIRST_BYTES

    @property
    def position(self) -> int:
        return self._begin + self._used

    def take(self, n_bytes: int) -> bytes:
        """
        Raises:
            InvalidModelFile: the file, or what may be read of it, ends before.
        """
        if self._used + n_bytes > len(self._piece):
            self._read_on(n_bytes)
        begin = self._used
        self._used = begin + n_bytes
        return self._piece[begin : self._used]

    def skip(self, n_bytes: int) -> None:
        """Raises as `take` does."""
        if self._used + n_bytes <= len(self._piece):
            self._used += n_bytes
            return
        self._check(n_bytes)
        self._begin = self.position + n_bytes
        self._file.seek(self._begin)
        self._piece, self._used = b"", 0

    def skip_texts(self, n_texts: int, most_bytes: int) -> None:
        """Texts behind their lengths, each of `most_bytes` at the most. Raises as `take` does."""
        # A vocabulary has 100,000: most of the time that a header takes is spent here.
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
        """Have `n_bytes` at hand."""
        self._check(n_bytes)
        rest = self._piece[self._used :]
        fresh = self._file.read(max(n_bytes - len(rest), self._next_bytes))
        self._next_bytes = min(4 * self._next_bytes, MOST_BYTES)
        self._begin, self._used = self.position, 0
        self._piece = rest + fresh
        if len(self._piece) < n_bytes:
            # It was cut while it was read.
            raise _cut()

    def _check(self, n_bytes: int) -> None:
        if self.position + n_bytes > self._size_bytes:
            raise _cut()
        if self.position + n_bytes > self._most_bytes:
            raise InvalidModelFile(f"the GGUF header has more than {self._most_bytes >> 20} MiB")


def _cut() -> InvalidModelFile:
    return InvalidModelFile("the GGUF file is truncated: it ends within its header")
