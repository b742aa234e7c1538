"""Whether a service answers: HTTP GET for the gateway, the standard health call for workers.

The gRPC call is written by hand (one unary request on a fresh HTTP/2 connection). The worker's
event loop answers it, so a worker that hangs is noticed; and the supervisor and the probes of
containers need not load grpc, which would cost them 30 MB.
"""

import asyncio
import contextlib
import ssl
import struct
import sys
from dataclasses import dataclass

from cli.address import Address

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
SERVING = b"\x08\x01"
LARGEST_FRAME_BYTES = 1 << 16


@dataclass(frozen=True)
class GrpcHealth:
    """The answer to a health call."""

    is_serving: bool


async def http_status(address: Address, path: str, timeout_s: float) -> int:
    """The status of `GET path`.

    Raises:
        OSError: there is no answer, or it is not HTTP.
        TimeoutError: no answer in time.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await _connect(address)
        try:
            head = f"GET {path} HTTP/1.1\r\nHost: {address.authority}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            words = (await reader.readline()).split()
        finally:
            await _close(writer)
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionError(f"not an HTTP reply: {words!r}")
    return int(words[1])


async def grpc_health(
    host: str, port: int, timeout_s: float, certificates: tuple[str, str, str] | None = None
) -> GrpcHealth:
    """Call `grpc.health.v1.Health/Check` for the whole server.

    Args:
        certificates: files of authority, own certificate and key; None: without TLS.
    Raises:
        OSError: there is no answer, or it is not HTTP/2.
        TimeoutError: no answer in time.
    """
    tls = None if certificates is None else _tls(*certificates)
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        try:
            message = struct.pack(">BI", 0, 0)
            writer.write(
                PREFACE
                + _frame(SETTINGS, 0, 0, b"")
                + _frame(HEADERS, END_HEADERS, 1, _check_headers(f"{host}:{port}", tls is not None))
                + _frame(DATA, END_STREAM, 1, message)
            )
            return await _answer(reader, writer)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the connection ended before the answer") from error
        finally:
            await _close(writer)


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not address.socket:
        return await asyncio.open_connection(address.host, address.port, ssl=address.any_answer)
    if sys.platform == "win32":
        raise OSError("Unix sockets are not for Windows")
    return await asyncio.open_unix_connection(address.socket)


def _tls(authority: str, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    # The call goes to this machine by a loopback address, which is in no certificate.
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> GrpcHealth:
    body = b""
    while True:
        head = await reader.readexactly(9)
        length = int.from_bytes(head[:3], "big")
        kind, flags = head[3], head[4]
        if length > LARGEST_FRAME_BYTES:
            raise ConnectionError("not an HTTP/2 reply")
        payload = await reader.readexactly(length)
        match kind:
            case 4 if not flags & ACK:
                writer.write(_frame(SETTINGS, ACK, 0, b""))
            case 0:
                body += payload
            case 3 | 7:
                raise ConnectionError("the server refused the call")
            case _:
                pass
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            # A reply with headers only is an error: the server answers, but does not serve.
            return GrpcHealth(body[5:7] == SERVING)


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


async def _close(writer: asyncio.StreamWriter) -> None:
    # There is nothing more to send, and gRPC does not answer TLS's close_notify.
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
