"""Parses server-sent events: the payloads of `data:` lines, however they are chunked."""

from common.error_texts import ErrorText
from common.errors import BackendFailure

MAX_LINE_BYTES = 1024 * 1024
MAX_REPLY_BYTES = 256 * 1024 * 1024


class DataLines:
    """Collects the payloads of one stream.

    >>> lines = DataLines()
    >>> lines.feed(b": hi\\ndata: {"), lines.feed(b"}\\r\\n\\ndata:[DONE]\\n")
    ([], [b'{}', b'[DONE]'])
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._n_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads that `chunk` completes.

        Raises:
            BackendFailure: a line or the whole reply is too long.
        """
        self._n_bytes += len(chunk)
        payloads = []
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = bytes(self._pending) + end
            self._pending.clear()
            if line.startswith(b"data:"):
                payloads.append(line[5:].strip())
        self._pending += rest
        if len(self._pending) > MAX_LINE_BYTES or self._n_bytes > MAX_REPLY_BYTES:
            raise BackendFailure(ErrorText("remote_too_large"))
        return payloads
