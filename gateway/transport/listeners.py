"""Opens what the gateway listens on: its ports, with or without TLS, or a Unix socket."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from gateway.settings import GatewaySettings
from gateway.transport.tls import Certificate, Client, Handshake

# Read and write for the owner and their group.
_MASK = 0o117


async def listen(
    settings: GatewaySettings, connect: Callable[[], Client], backlog: int
) -> list[asyncio.Server]:
    """
    Args:
        connect: makes the protocol of a new connection.
        backlog: connections that may wait to be accepted.
    Raises:
        OSError: a port or the socket cannot be opened.
    """
    loop = asyncio.get_running_loop()
    accept: Callable[[], asyncio.Protocol] = connect  # type: ignore[assignment]
    if settings.socket is not None:
        bound = bind(settings.socket)
        return [await loop.create_unix_server(accept, sock=bound, backlog=backlog)]
    if settings.https_cert is not None and settings.https_key is not None:
        certificate = Certificate(settings.https_cert, settings.https_key)
        within_s = settings.header_timeout_s

        def accept() -> Handshake:
            return Handshake(connect, certificate.context(), within_s)

    opened: list[asyncio.Server] = []
    ports = [settings.port, settings.ollama_port] if settings.ollama_port else [settings.port]
    try:
        for port in ports:
            server = await loop.create_server(accept, settings.host, port, backlog=backlog)
            opened.append(server)
    except OSError:
        for server in opened:
            server.close()
        raise
    return opened


def bind(path: Path) -> socket.socket:
    """A Unix socket at `path`, in place of one that a dead server left.

    Raises:
        OSError: another server listens there, or something else is there.
    """
    _remove_dead(path)
    found = socket.socket(socket.AF_UNIX)
    # A later change of its mode would come too late for whoever connects first.
    before = os.umask(_MASK)
    try:
        found.bind(str(path))
    except OSError:
        found.close()
        raise
    finally:
        os.umask(before)
    return found


def _remove_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there already, and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise FileExistsError(f"another server listens at {path}")
