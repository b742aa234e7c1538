"""Frames: a little-endian uint32 length, followed by that many bytes."""

import struct
from collections.abc import Iterator

MAX_FRAME_BYTES = 256 * 1024 * 1024
LENGTH = struct.Struct("<I")


def framed(payload: bytes) -> bytes:
    return LENGTH.pack(len(payload)) + payload


def frame_length(head: bytes, most: int = MAX_FRAME_BYTES) -> int:
    """Length in bytes of the payload that follows the four bytes `head`.

    Raises:
        ValueError: longer than `most`, so these bytes are not the head of a frame.
    """
    (length,) = LENGTH.unpack(head)
    if length > most:
        raise ValueError(f"a frame of {length} bytes")
    return int(length)


class FrameSplitter:
    """Splits a stream of bytes, which arrives in arbitrary pieces, into the payloads of frames.

    Args:
        most: bytes of one payload.
    """

    def __init__(self, most: int = MAX_FRAME_BYTES) -> None:
        self._most = most
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the payloads that `chunk` completes.

        Raises:
            ValueError: as `frame_length`.
        """
        self._pending += chunk
        start = 0
        while len(self._pending) - start >= LENGTH.size:
            body = start + LENGTH.size
            end = body + frame_length(bytes(self._pending[start:body]), self._most)
            if len(self._pending) < end:
                break
            with memoryview(self._pending) as pending:
                payload = bytes(pending[body:end])
            yield payload
            start = end
        del self._pending[:start]
