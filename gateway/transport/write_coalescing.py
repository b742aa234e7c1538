"""Sends the headers of a reply and the first bytes of its body in one packet."""

from asyncio import Transport
from typing import Any

HEAD = b"HTTP/1.1 "
# An interim reply (1xx), for which a client waits before it sends its body.
INTERIM = HEAD + b"1"


class WriteCoalescing:
    """A transport that holds headers back until the next write.

    uvicorn writes them separately; each write is a system call, and wakes the client up.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data.startswith(HEAD) and not data.startswith(INTERIM):
            self._head = data
            return
        head, self._head = self._head, b""
        self._transport.write(head + data if head else data)

    def close(self) -> None:
        self.write(b"")
        self._transport.close()
