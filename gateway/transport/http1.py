"""HTTP/1.1 on one connection: httptools reads it, uvicorn answers, and requests come one by one.

uvicorn accepts another class for connections (`Config(http=...)`), but has no limits for them: no
time for headers, no number per address, and no way to use our errors for invalid HTTP. And
httptools reads all that it is given: heads without end, requests sent ahead, a missing `Host`,
trailers, and what follows an `Upgrade` as another protocol. So this module

- gives it the head of a request, then the body, and the next request only after the answer;
- bounds what a head, a trailer or a chunk's extension may take before its end;
- refuses what RFC 9112 does and httptools does not: see `on_headers_complete`.

It depends on `HttpToolsProtocol`: asyncio's and httptools' callbacks, and beside them
`on_response_complete`, `cycle.response_started`, `cycle.response_complete`, `cycle.disconnected`,
`cycle.message_event`, `cycle.keep_alive`, `headers`, `parser`, `flow`, `client`, `loop` and
`transport`; and that the headers and the body of a reply are written separately, and the former
begin with `HTTP/1.1 ` (`write_coalescing.py`).

Tried with uvicorn 0.54.0 and httptools 0.9.0; `tests/contract/test_uvicorn_internals.py` and
`tests/contract/test_hostile_http.py` guard it.
"""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from common.loopback import UNIX
from gateway.transport.write_coalescing import WriteCoalescing

# With it a head ends, and a body in chunks.
END = b"\r\n\r\n"
# So many of its bytes may have come before the rest.
N_LATEST = len(END) - 1
# Of a head that comes in pieces, and of what else stands between two pieces of a body.
MAX_UNFINISHED_BYTES = 16 * 1024
VERSIONS = ("1.0", "1.1")


class Http1Connection(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn is not typed for us
    """One connection, with hooks for a subclass that limits it."""

    client: tuple[str, int] | None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(WriteCoalescing(transport))
        if address_of(transport) == UNIX:
            self.client = (UNIX, 0)
        # What came and is not read yet, and the last bytes that were.
        self._ahead = b""
        self._latest = b""
        # Bytes since the latest progress of a request, and those of its body that are to come.
        self._n_unfinished = 0
        self._n_of_body = 0
        self._is_in_body = False
        # httptools would not read a body after an `Upgrade`.
        self._reads_body = True

    def on_answered(self) -> None:
        """Called when a reply is complete; the next request may be in progress already."""

    def on_invalid(self) -> None:
        """Called for data that is not HTTP; it should call `reply_and_close`."""
        raise NotImplementedError

    @property
    def is_answering(self) -> bool:
        """Whether a request is in progress."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_sent_a_body(self) -> bool:
        """Whether more of a request's body is to come, even if its reply is complete."""
        return self._is_in_body

    @property
    def n_ahead_bytes(self) -> int:
        """What came behind the request in progress."""
        return len(self._ahead)

    def close_after_this(self) -> None:
        """Let the reply to the request in progress end the connection, and say so."""
        self.cycle.keep_alive = False

    def reply_and_close(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer outside of any request; nothing is sent if a reply has begun."""
        cycle = self.cycle
        is_request_open = cycle is not None and (self._is_in_body or not cycle.response_complete)
        if not (is_request_open and cycle.response_started):
            fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
            self.transport.write(STATUS_LINE[status] + fields.encode("latin-1") + b"\r\n" + body)
        if is_request_open:
            # Its handler learns that nobody waits for its reply.
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._ahead += data
        self._read_on()

    def on_response_complete(self) -> None:
        # A reply without a body is its head alone, which waits for more.
        self.transport.write(b"")
        super().on_response_complete()
        self._read_on()
        self.on_answered()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers would become headers of a request that was checked already.
        if not self._is_in_body:
            super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        """Begin the request.

        Raises:
            ValueError: it names no host or two, its body is encoded in another way than in chunks,
                or it is of another version of HTTP. The connection is told that it is invalid.
        """
        names = [name for name, _ in self.headers]
        found = dict(self.headers)
        coding = found.get(b"transfer-encoding", b"").lower()
        n_hosts, n_codings = names.count(b"host"), names.count(b"transfer-encoding")
        version = self.parser.get_http_version()
        if version not in VERSIONS or n_hosts > 1 or n_hosts < (version == "1.1"):
            raise ValueError("it has another version, or not one host")
        self._reads_body = not self.parser.should_upgrade()
        is_chunked = coding == b"chunked" and version == "1.1" and self._reads_body
        if n_codings > is_chunked:
            raise ValueError("its body is not just in chunks")
        self._n_of_body = int(found.get(b"content-length", b"0"))
        self._n_unfinished = 0
        super().on_headers_complete()
        self._is_in_body = is_chunked or self._n_of_body > 0

    def on_chunk_header(self) -> None:
        self._n_unfinished = 0

    def on_body(self, body: bytes) -> None:
        self._n_unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._n_of_body == 0:
            self._is_in_body = False
            self._n_unfinished = 0
            super().on_message_complete()

    def _read_on(self) -> None:
        """Read what came, up to the end of a request that is to be answered before the next."""
        data, at = self._ahead, 0
        while at < len(data) and not self.transport.is_closing():
            if self.is_answering and not self._is_in_body:
                self.flow.pause_reading()
                break
            end = self._end_of_piece(data, at)
            piece, at = data[at:end], end
            if not self._read(piece):
                self.on_invalid()
        self._ahead = data[at:]
        if self.is_answering:
            self._unset_keepalive_if_required()

    def _end_of_piece(self, data: bytes, at: int) -> int:
        """Where a head, a body or a part of them ends: behind it another request may begin."""
        if self._n_of_body:
            return min(at + self._n_of_body, len(data))
        # The end may have come in two pieces.
        begun = (self._latest + data[at : at + N_LATEST]).find(END)
        if begun >= 0:
            return at + begun + len(END) - len(self._latest)
        found = data.find(END, at)
        return found + len(END) if found >= 0 else len(data)

    def _read(self, piece: bytes) -> bool:
        """Give a piece of a request to httptools; False: it is invalid."""
        self._latest = (self._latest + piece[-N_LATEST:])[-N_LATEST:]
        if self._n_of_body:
            self._n_of_body -= len(piece)
            if not self._reads_body:
                self.on_body(piece)
                self.on_message_complete()
                return True
        self._n_unfinished += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # It is not followed, and goes on as HTTP/1.1.
            return True
        except httptools.HttpParserError:
            return False
        return self._n_unfinished <= MAX_UNFINISHED_BYTES


def address_of(transport: asyncio.Transport) -> str:
    """The address of the client; `UNIX` for any of a Unix socket, "" if it has left already."""
    if not isinstance(transport.get_extra_info("sockname"), tuple):
        return UNIX
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
