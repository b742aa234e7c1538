"""TLS for clients: the certificate, read again when it changes, and bounded handshakes.

A server of asyncio's with a certificate tells nobody of a connection before its handshake is over:
neither their number nor the part of one address would be limited. So the port accepts connections
without TLS, and each is counted, and then upgraded.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

# A client need not answer the end of TLS; its connection is closed all the same.
SHUTDOWN_S = 2.0

log = logging.getLogger(__name__)


def server_context(chain: Path, key: Path) -> ssl.SSLContext:
    """The context of a server with that certificate.

    Raises:
        OSError: a file cannot be read, or they do not fit together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Without a password given, OpenSSL would ask the terminal for that of an encrypted key.
    context.load_cert_chain(chain, key, password="")
    context.set_alpn_protocols(["http/1.1"])
    # Before OpenSSL 3 a client could ask for handshake after handshake on one connection.
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


class Certificate:
    """A certificate that is renewed while it is used: new connections get the new one.

    Raises:
        OSError: as `server_context` does; later the last good files stay in use.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain, self._key = chain, key
        self._seen = self._state()
        self._context = server_context(chain, key)

    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        now = self._state()
        if now != self._seen:
            # Files that do not fit together, as one was replaced first, are reported once.
            self._seen = now
            try:
                self._context = server_context(self._chain, self._key)
                log.info("the certificate %s was renewed", self._chain)
            except OSError as error:
                log.error("the certificate %s stays as it was: %s", self._chain, error)
        return self._context

    def _state(self) -> list[tuple[int, int, int] | None]:
        return [_state_of(file) for file in (self._chain, self._key)]


class Client(Protocol):
    """A connection of the server, which exists before its handshake."""

    def enter(self, transport: asyncio.Transport) -> bool:
        """Count the connection; False: there is no room for it."""

    def leave(self) -> None:
        """Undo that, unless it was done already."""

    def connection_made(self, transport: asyncio.Transport) -> None: ...

    def data_received(self, data: bytes) -> None: ...


class Handshake(asyncio.Protocol):
    """A connection until both sides have agreed on TLS; then the client's protocol takes over.

    Args:
        connect: makes that protocol.
        within_s: seconds for the handshake.
    """

    def __init__(
        self, connect: Callable[[], Client], context: ssl.SSLContext, within_s: float
    ) -> None:
        self._client = connect()
        self._context = context
        self._within_s = within_s
        self._early = b""
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        # What the client sends is for TLS, which reads on.
        transport.pause_reading()
        if self._client.enter(transport):
            self._agreeing = asyncio.ensure_future(self._agree(transport))
        else:
            self._client.leave()
            transport.abort()

    def data_received(self, data: bytes) -> None:
        # A request may arrive with the end of the handshake.
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True

    async def _agree(self, transport: asyncio.Transport) -> None:
        try:
            upgraded = await asyncio.get_running_loop().start_tls(
                transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._within_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except OSError as error:
            # Nothing is wrong here: it may speak plain HTTP, or distrust the certificate.
            log.debug("no TLS with a client: %s", error)
            upgraded = None
        if upgraded is None or self._is_lost:
            self._client.leave()
            transport.abort()
            return
        upgraded.set_protocol(self._client)  # type: ignore[arg-type]  # it is an asyncio.Protocol
        self._client.connection_made(upgraded)
        if self._early:
            self._client.data_received(self._early)


def _state_of(file: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written; None: it cannot be looked at."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
