"""Waits for the one connection of a direct stream."""

import contextlib
import socket
from collections.abc import Callable

from common.direct_stream import PROOF_BYTES, is_proof, proof

# How long the gateway may take to connect, and to prove itself.
CONNECT_S = 5.0


def listen_for(secret: bytes, tell_port: Callable[[int], None]) -> socket.socket:
    """The connection to a gateway of this machine that has proved to know the secret.

    Args:
        tell_port: called once when somebody may connect.
    Raises:
        OSError: none came in time.
        ValueError: somebody else came.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        listener.settimeout(CONNECT_S)
        tell_port(listener.getsockname()[1])
        connection, _ = listener.accept()
    with contextlib.ExitStack() as unless_proved:
        unless_proved.enter_context(connection)
        connection.settimeout(CONNECT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not is_proof(_read_proof(connection), secret, "caller"):
            raise ValueError("its caller does not know the secret")
        connection.sendall(proof(secret, "process"))
        unless_proved.pop_all()
    return connection


def _read_proof(connection: socket.socket) -> bytes:
    sent = b""
    while len(sent) < PROOF_BYTES and (more := connection.recv(PROOF_BYTES - len(sent))):
        sent += more
    return sent
