"""Small generations as messages of one stream to a worker.

What all answers say at one time is one message: for each event of its own, gRPC would take half of
what a streamed token costs the gateway. A client that reads slowly delays its own answer only: its
events wait here up to a window, and then with the worker.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from common.errors import ServingError
from common.rpc_limits import REQUEST_ID_KEY, WINDOW_EVENTS
from gateway.pool.call_errors import too_slow
from gateway.pool.call_stream import CallStream, error_of_reply, trace_headers
from protos.y26hkx.v1 import chat_pb2 as pb

MOST_BYTES = 64 * 1024
# The worker is told of events that were read in groups of this size.
TOLD_TOGETHER = WINDOW_EVENTS // 2


class ChatStub(CallStream[pb.GenerateCall, pb.GenerateReply, "StreamedCall"]):
    """A stub of `ChatService` that sends small `Generate` calls over the stream."""

    def __init__(self, stub: Any, metadata: Sequence[tuple[str, str]]) -> None:
        super().__init__(stub, metadata)
        self.Tokenize, self.Detokenize = stub.Tokenize, stub.Detokenize
        self.ApplyTemplate = stub.ApplyTemplate

    def Generate(  # noqa: N802 - the stub's name
        self, request: pb.GenerateRequest, *, metadata: Sequence[tuple[str, str]], timeout: float
    ) -> Any:
        """The call, as gRPC's or as a `StreamedCall`.

        Args:
            timeout: in seconds, for the whole answer.
        """
        if not self.takes(is_small=is_small(request)):
            return self._stub.Generate(request, metadata=metadata, timeout=timeout)
        call = StreamedCall(self, timeout)
        trace, request_id = trace_headers(metadata), dict(metadata)[REQUEST_ID_KEY]
        self.put(pb.GenerateCall(id=call.id, request=request, request_id=request_id, trace=trace))
        return call

    def forget(self, id: int) -> bool:
        """Nobody reads a call's replies any more. Returns False if it has ended."""
        return self._waiting.pop(id, None) is not None

    def open(self, metadata: Sequence[tuple[str, str]]) -> Any:
        return self._stub.GenerateMany(metadata=metadata)

    def message(self, calls: list[pb.GenerateCall]) -> pb.GenerateCalls:
        return pb.GenerateCalls(calls=calls)

    def receive(self, reply: pb.GenerateReply) -> None:
        call = self._waiting.get(reply.id)
        if call is None:
            return
        if reply.HasField("event"):
            call.add(reply.event)
            return
        del self._waiting[reply.id]
        call.end(error_of_reply(reply.status) if reply.status else None)

    def fail(self, waiting: "StreamedCall", problem: ServingError) -> None:
        waiting.end(problem)


class StreamedCall:
    """One generation on the stream, with the methods of gRPC's calls.

    Args:
        timeout_s: for the whole answer.
    """

    def __init__(self, stub: ChatStub, timeout_s: float) -> None:
        self._stub = stub
        self._events: list[pb.GenerateEvent] = []
        self._n_untold = 0
        self._is_cancelled = self._has_ended = False
        self._error: ServingError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.call_later(timeout_s, self._be_late)
        self.id = stub.new_id(self)

    async def read(self) -> Any:
        """The next event; `grpc.aio.EOF` at the end.

        Raises:
            ServingError: the call failed.
            asyncio.CancelledError: the call was cancelled, as in gRPC.
        """
        while not self._events:
            if self._is_cancelled:
                raise asyncio.CancelledError
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return grpc.aio.EOF
            self._reader = self._loop.create_future()
            await self._reader
        self._n_untold += 1
        if self._n_untold == TOLD_TOGETHER and not self._has_ended:
            self._stub.put(pb.GenerateCall(id=self.id, n_read=self._n_untold))
            self._n_untold = 0
        return self._events.pop(0)

    def cancel(self) -> None:
        self._events.clear()
        self._is_cancelled = True
        self._leave()

    async def code(self) -> grpc.StatusCode:
        """For a call that ended without `finished` and without an error."""
        return grpc.StatusCode.OK

    def add(self, event: pb.GenerateEvent) -> None:
        self._events.append(event)
        self._wake()

    def end(self, error: ServingError | None) -> None:
        """Nothing more comes."""
        self._has_ended, self._error = True, error
        self._deadline.cancel()
        self._wake()

    def _be_late(self) -> None:
        self._error = too_slow()
        self._leave()

    def _leave(self) -> None:
        self._deadline.cancel()
        if self._stub.forget(self.id):
            self._stub.put(pb.GenerateCall(id=self.id, cancel=True))
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def is_small(request: pb.GenerateRequest) -> bool:
    """Whether neither the request nor any event of its answer is large; log-probabilities of many
    tokens are."""
    return not request.HasField("top_logprobs") and request.ByteSize() <= MOST_BYTES
