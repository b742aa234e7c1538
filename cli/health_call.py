"""The bytes of one `grpc.health.v1.Health/Check` on a fresh HTTP/2 connection, without any I/O.

Written by hand, so that nobody who asks need load grpc, and the probe of containers, which is
started again and again, not even asyncio, which takes longer than all the rest.
"""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
SERVING = b"\x08\x01"
LARGEST_FRAME_BYTES = 1 << 16
_HEAD_BYTES = 9


def request(authority: str, *, encrypted: bool) -> bytes:
    """What the client sends; the server answers all of it at once."""
    message = struct.pack(">BI", 0, 0)
    return (
        PREFACE
        + _frame(SETTINGS, 0, 0, b"")
        + _frame(HEADERS, END_HEADERS, 1, _check_headers(authority, encrypted))
        + _frame(DATA, END_STREAM, 1, message)
    )


def is_serving(received: bytes) -> bool | None:
    """Whether the server serves, by all that it has sent; None: the answer is not complete.

    Raises:
        ConnectionError: it is no HTTP/2, or refuses the call.
    """
    body, at = b"", 0
    while len(received) >= at + _HEAD_BYTES:
        length = int.from_bytes(received[at : at + 3], "big")
        kind, flags = received[at + 3], received[at + 4]
        if length > LARGEST_FRAME_BYTES:
            raise ConnectionError("not an HTTP/2 reply")
        payload = received[at + _HEAD_BYTES : at + _HEAD_BYTES + length]
        if len(payload) < length:
            return None
        if kind in (RST_STREAM, GOAWAY):
            raise ConnectionError("the server refused the call")
        if kind == DATA:
            body += payload
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            # A reply with headers only is an error: the server answers, but does not serve.
            return body[5:7] == SERVING
        at += _HEAD_BYTES + length
    return None


def _check_headers(authority: str, encrypted: bool) -> bytes:
    # HPACK without dynamic table and Huffman coding: the indexes are of RFC 7541's static table.
    return b"".join(
        [
            b"\x83",  # :method POST
            b"\x87" if encrypted else b"\x86",  # :scheme https or http
            b"\x04" + _text("/grpc.health.v1.Health/Check"),
            b"\x01" + _text(authority),
            b"\x0f\x10" + _text("application/grpc"),
            b"\x00" + _text("te") + _text("trailers"),
        ]
    )


def _text(value: str) -> bytes:
    assert len(value) < 127, "longer strings need HPACK's long form"
    return bytes([len(value)]) + value.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload
