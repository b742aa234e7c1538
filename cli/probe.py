"""Exit status 0 if a service is healthy, for container health checks: `python -m cli.probe worker`.

python -m cli.probe gateway [--port 8001]     GET /health/live (or --path); HTTPS or a Unix socket
                                              where the settings say so
python -m cli.probe worker --port 50051       grpc.health.v1, SERVING

A container starts it twice a minute, so it imports little: `python -S`, no asyncio, and settings
and TLS only where they are needed.
"""

import argparse
import os
import socket
import sys
from collections.abc import Sequence

from cli import health_call

OK = b"200"
CHUNK_BYTES = 1 << 16


def main(argv: Sequence[str] | None = None) -> int:
    """Check once; returns 0 if healthy, else 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m cli.probe", description="Check whether a service is healthy."
    )
    parser.add_argument("service", choices=["gateway", "worker"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--path", default="/health/live", help="gateway only")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds")
    chosen = parser.parse_args(argv)
    try:
        with _connect(chosen) as connection:
            ask = _ask_gateway if chosen.service == "gateway" else _ask_worker
            reason = ask(connection, chosen)
    except (OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    if reason:
        sys.stderr.write(f"{chosen.service} is not healthy: {reason}\n")
    return 1 if reason else 0


def _connect(chosen: argparse.Namespace) -> socket.socket:
    """
    Raises:
        OSError: nothing listens there.
        SettingsError: .env cannot be read.
    """
    where = (chosen.host, chosen.port)
    elsewhere = _has_settings("GATEWAY_SOCKET", "GATEWAY_TLS_CERT")
    if chosen.service == "worker" or not elsewhere:
        return socket.create_connection(where, chosen.timeout)
    from cli.settings import StackSettings

    address = StackSettings.read({}).address(chosen.port)
    if address.socket:
        if sys.platform == "win32":
            raise OSError("Unix sockets are not for Windows")
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(chosen.timeout)
        try:
            connection.connect(address.socket)
        except OSError:
            connection.close()
            raise
        return connection
    connection = socket.create_connection(where, chosen.timeout)
    tls = address.any_answer
    return connection if tls is None else tls.wrap_socket(connection)


def _ask_gateway(connection: socket.socket, chosen: argparse.Namespace) -> str:
    name = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    head = f"GET {chosen.path} HTTP/1.1\r\nHost: {name}:{chosen.port}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode())
    line = b""
    while b"\n" not in line and (chunk := connection.recv(CHUNK_BYTES)):
        line += chunk
    words = line.split(maxsplit=2)
    return "" if words[1:2] == [OK] else f"it answers {line[:60]!r}"


def _ask_worker(connection: socket.socket, chosen: argparse.Namespace) -> str:
    certificates = _certificates()
    if certificates is not None:
        from cli.liveness import client_tls

        connection = client_tls(*certificates).wrap_socket(connection)
    authority = f"{chosen.host}:{chosen.port}"
    connection.sendall(health_call.request(authority, encrypted=certificates is not None))
    received = b""
    while (serves := health_call.is_serving(received)) is None:
        chunk = connection.recv(CHUNK_BYTES)
        if not chunk:
            return "the connection ended before the answer"
        received += chunk
    return "" if serves else "NOT_SERVING"


def _certificates() -> tuple[str, str, str] | None:
    """Of this service, by its settings.

    Raises:
        SettingsError: .env cannot be read.
    """
    if not _has_settings("WORKER_TLS_CERT"):
        return None
    from cli.settings import StackSettings

    return StackSettings.read({}).worker_certificates


def _has_settings(*names: str) -> bool:
    """Whether one of these may be set; only then are all settings read, which takes longer."""
    environment = os.environ  # noqa: TID251 - as above
    return any(map(environment.get, names)) or os.path.exists(".env")


if __name__ == "__main__":
    sys.exit(main())
