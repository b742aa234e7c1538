"""The ports of this machine, and the gateway's socket: which are free, and who has the others."""

import asyncio
import contextlib
import socket
import sys

from cli.address import Address
from cli.liveness import ANSWER_WITHIN_S, OK, http_status
from cli.settings import SettingsError, StackSettings


def require_unused(settings: StackSettings, port: int) -> None:
    """
    Raises:
        SettingsError: another program listens on the gateway's port or socket.
    """
    if not settings.socket:
        require_free(settings.host, port)
    elif sys.platform != "win32":
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            # Nobody listens at a socket that refuses; the gateway tells what else is wrong with it.
            probe.connect(settings.socket)
            raise SettingsError(f"another program listens at {settings.address()}")


def require_free(host: str, port: int) -> None:
    """
    Raises:
        SettingsError: another program listens there, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        if sys.platform == "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # Connections of an earlier run that still linger do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another --port"
            ) from error


def free_ports(n: int, host: str) -> list[int]:
    """Free ports; all are held until the last is chosen, so that they differ."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = [socket.socket(family) for _ in range(n)]
    try:
        for probe in held:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in held]
    finally:
        for probe in held:
            probe.close()


def gateway_answers(address: Address) -> bool:
    """Whether a gateway is there, of this stack or of another one."""
    ask = http_status(address, "/health/live", ANSWER_WITHIN_S)
    try:
        return asyncio.run(ask) == OK
    except (OSError, TimeoutError):
        return False
