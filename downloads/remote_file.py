"""The beginning of a file on another server, for readers of headers."""

import io

from downloads.listing import RemoteFile
from downloads.web import Web

# Fetched at a time: most headers of GGUF files are a few MB, for the vocabulary.
PIECE_BYTES = 1 << 20


class RemoteBytes(io.RawIOBase):
    """A file that is read forward, a range at a time. Reading raises ServingError."""

    def __init__(self, web: Web, file: RemoteFile, headers: dict[str, str]) -> None:
        self._web = web
        self._file = file
        self._headers = headers
        self._position = 0
        # The piece that was fetched last, and where it begins.
        self._piece = b""
        self._begin = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET
        self._position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """At most the next `size` bytes; fewer at the end of the file."""
        end = min(self._position + size, self._file.size_bytes)
        if not self._begin <= self._position <= end <= self._begin + len(self._piece):
            until = min(max(end, self._position + PIECE_BYTES), self._file.size_bytes)
            self._piece = self._web.part(self._file.address, self._headers, self._position, until)
            self._begin = self._position
        start = self._position - self._begin
        found = self._piece[start : start + end - self._position]
        self._position += len(found)
        return found
