"""A direct stream: small embedding calls to the process of a model, on a socket of this machine.

`embed.proto` describes its messages (`DirectStream`).
"""

import asyncio
from typing import Self

from google.protobuf.message import DecodeError

from common.direct_stream import PROOF_BYTES, is_proof, proof
from common.error_texts import ErrorText
from common.errors import WorkerLost
from common.frames import FrameSplitter, framed
from gateway.pool.call_errors import too_slow
from protos.y26hkx.v1 import embed_pb2 as pb

CONNECT_S = 2.0
# A stream without calls ends after this time, because until then the model is in use.
IDLE_S = 0.25


class DirectStream(asyncio.Protocol):
    """The gateway's end.

    Args:
        secret: the worker told it to both ends.
    """

    def __init__(self, secret: bytes) -> None:
        # Whether calls are taken.
        self.is_open = False
        # Set when the other end has proved itself, and when the connection has ended.
        self.proved, self.closed = asyncio.Event(), asyncio.Event()
        self._secret = secret
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._splitter = FrameSplitter()
        self._transport: asyncio.Transport
        self._waiting: dict[int, asyncio.Future[pb.EmbedResponse | None]] = {}
        self._last_id = 0
        self._unsent: list[pb.EmbedCall] = []
        self._used_s = self._loop.time()

    @classmethod
    async def connected(cls, where: pb.DirectStream) -> Self:
        """
        Raises:
            OSError: the process cannot be reached, or something else listens there.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_S):
            _, stream = await loop.create_connection(
                lambda: cls(where.secret), "127.0.0.1", where.port
            )
            try:
                await stream.proved.wait()
            except asyncio.CancelledError:
                stream.break_off()
                raise
        if not stream.is_open:
            raise ConnectionError("a stranger listens where the process should")
        return stream

    async def embed(self, request: pb.EmbedRequest, timeout_s: float) -> pb.EmbedResponse | None:
        """The answer; None: the worker is to be asked.

        Raises:
            DeadlineExceeded: there was none in time.
            WorkerLost: the process died.
        """
        waiting = self._loop.create_future()
        self._last_id += 1
        id = self._last_id
        self._waiting[id] = waiting
        self._put(pb.EmbedCall(id=id, request=request))
        try:
            async with asyncio.timeout(timeout_s):
                found: pb.EmbedResponse | None = await waiting
                return found
        except TimeoutError:
            raise too_slow() from None
        finally:
            # It is still there if there was no answer: then this side has given up.
            if self._waiting.pop(id, None) is not None:
                self._put(pb.EmbedCall(id=id, cancel=True))

    def end(self) -> None:
        """Take no more calls; those that are open get their answers."""
        if self.is_open:
            self.is_open = False
            self._send()
            self._transport.write_eof()

    def break_off(self) -> None:
        self._transport.abort()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(proof(self._secret, "caller"))

    def data_received(self, data: bytes) -> None:
        if not self.proved.is_set():
            self._received += data
            if len(self._received) < PROOF_BYTES:
                return
            self.is_open = is_proof(bytes(self._received[:PROOF_BYTES]), self._secret, "process")
            self.proved.set()
            data = bytes(self._received[PROOF_BYTES:])
            if not self.is_open:
                self.break_off()
                return
            self._end_if_idle()
        try:
            for payload in self._splitter.feed(data):
                self._receive(pb.EmbedReplies.FromString(payload))
        except (ValueError, DecodeError):
            self.break_off()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.proved.set()
        self.closed.set()
        lost, self._waiting = self._waiting, {}
        for waiting in lost.values():
            if not waiting.done():
                waiting.set_exception(WorkerLost(ErrorText("worker_lost"), retry_after_s=1))

    def _receive(self, message: pb.EmbedReplies) -> None:
        if not message.replies:
            self.end()
        for reply in message.replies:
            waiting = self._waiting.pop(reply.id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply.response if reply.HasField("response") else None)

    def _put(self, call: pb.EmbedCall) -> None:
        """Send `call` together with those that begin in the same turn of the event loop."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(call)
        self._used_s = self._loop.time()

    def _send(self) -> None:
        calls, self._unsent = self._unsent, []
        # A call that was given up after the end is not told: its answer is ignored.
        if calls and not self._transport.is_closing():
            self._transport.write(framed(pb.EmbedCalls(calls=calls).SerializeToString()))

    def _end_if_idle(self) -> None:
        left_s = self._used_s + IDLE_S - self._loop.time()
        if not self._waiting and left_s <= 0:
            self.end()
        elif self.is_open:
            self._loop.call_later(max(left_s, IDLE_S / 4), self._end_if_idle)
