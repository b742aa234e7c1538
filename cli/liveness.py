"""Whether a service answers: HTTP GET for the gateway, the standard health call for workers.

The worker's event loop answers the gRPC call, so a worker that hangs is noticed; and the supervisor
need not load grpc, which would cost it 30 MB (`health_call.py`).
"""

import asyncio
import contextlib
import ssl
import sys
from dataclasses import dataclass

from cli import health_call
from cli.address import Address

CHUNK_BYTES = 1 << 16
# How long a service has time for the answer that shows that it is alive.
ANSWER_WITHIN_S = 5.0
OK = 200


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
    tls = None if certificates is None else client_tls(*certificates)
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        try:
            writer.write(health_call.request(f"{host}:{port}", encrypted=tls is not None))
            received = b""
            while (found := health_call.is_serving(received)) is None:
                chunk = await reader.read(CHUNK_BYTES)
                if not chunk:
                    raise ConnectionError("the connection ended before the answer")
                received += chunk
            return GrpcHealth(found)
        finally:
            await _close(writer)


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not address.socket:
        return await asyncio.open_connection(address.host, address.port, ssl=address.any_answer)
    if sys.platform == "win32":
        raise OSError("Unix sockets are not for Windows")
    return await asyncio.open_unix_connection(address.socket)


def client_tls(authority: str, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    # The call goes to this machine by a loopback address, which is in no certificate.
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context


async def _close(writer: asyncio.StreamWriter) -> None:
    # There is nothing more to send, and gRPC does not answer TLS's close_notify.
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
