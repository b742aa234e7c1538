"""Small embedding calls as messages of one stream to a worker."""

import asyncio
from collections.abc import Sequence
from typing import Any

from common.errors import ServingError
from common.rpc_limits import REQUEST_ID_KEY
from gateway.pool.call_errors import too_slow
from gateway.pool.call_stream import CallStream, error_of_reply, trace_headers
from gateway.pool.direct_streams import DirectStreams
from protos.y26hkx.v1 import embed_pb2 as pb

MOST_INPUTS = 8
MOST_BYTES = 16 * 1024
Response = asyncio.Future[pb.EmbedResponse]


class EmbedStub(CallStream[pb.EmbedCall, pb.EmbedReply, Response]):
    """A stub of `EmbedService` that sends small `Embed` calls over the stream.

    Args:
        direct: of a worker on this machine; None: of another one.
    """

    def __init__(
        self,
        stub: Any,
        metadata: Sequence[tuple[str, str]],
        direct: DirectStreams | None = None,
    ) -> None:
        super().__init__(stub, metadata)
        self._direct = direct
        self.Rerank, self.Score, self.Tokenize = stub.Rerank, stub.Score, stub.Tokenize

    async def Embed(  # noqa: N802 - the stub's name
        self, request: pb.EmbedRequest, *, metadata: Sequence[tuple[str, str]], timeout: float
    ) -> pb.EmbedResponse:
        """
        Args:
            timeout: in seconds.
        Raises:
            ServingError, grpc.aio.AioRpcError: the worker refused, failed, or was lost.
        """
        small = is_small(request)
        if self._direct is None or not small:
            return await self._from_worker(request, metadata, timeout, small=small)
        stream = self._direct.find(request, metadata)
        if stream is not None and (answer := await stream.embed(request, timeout)) is not None:
            return answer
        answer = await self._from_worker(request, metadata, timeout, small=small)
        self._direct.note(request)
        return answer

    async def _from_worker(
        self,
        request: pb.EmbedRequest,
        metadata: Sequence[tuple[str, str]],
        timeout: float,
        *,
        small: bool,
    ) -> pb.EmbedResponse:
        if not self.takes(is_small=small):
            alone: pb.EmbedResponse
            alone = await self._stub.Embed(request, metadata=metadata, timeout=timeout)
            return alone
        waiting: Response = asyncio.get_running_loop().create_future()
        id = self.new_id(waiting)
        trace, request_id = trace_headers(metadata), dict(metadata)[REQUEST_ID_KEY]
        self.put(pb.EmbedCall(id=id, request=request, request_id=request_id, trace=trace))
        try:
            async with asyncio.timeout(timeout):
                return await waiting
        except TimeoutError:
            raise too_slow() from None
        finally:
            # It is still there if there was no answer: then this side has given up.
            if self._waiting.pop(id, None) is not None:
                self.put(pb.EmbedCall(id=id, cancel=True))

    def open(self, metadata: Sequence[tuple[str, str]]) -> Any:
        return self._stub.EmbedMany(metadata=metadata)

    def message(self, calls: list[pb.EmbedCall]) -> pb.EmbedCalls:
        return pb.EmbedCalls(calls=calls)

    def receive(self, reply: pb.EmbedReply) -> None:
        waiting = self._waiting.pop(reply.id, None)
        if waiting is None or waiting.done():
            return
        if reply.HasField("response"):
            waiting.set_result(reply.response)
        else:
            waiting.set_exception(error_of_reply(reply.status))

    def fail(self, waiting: Response, problem: ServingError) -> None:
        if not waiting.done():
            waiting.set_exception(problem)


def is_small(request: pb.EmbedRequest) -> bool:
    return len(request.inputs) <= MOST_INPUTS and request.ByteSize() <= MOST_BYTES
