"""Small embedding calls as messages of one stream to a worker.

A message costs a sixth of an RPC, on both sides, and calls that begin together share a message.
Large calls stay separate RPCs, because on the stream they would delay the small ones.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from common import errors
from common.error_texts import ErrorText
from common.errors import ServingError
from common.rpc_limits import REQUEST_ID_KEY
from common.send_queue import SendQueue
from common.tracing import TRACE_KEYS
from gateway.pool.call_errors import error_in_status, serving_error
from protos.y26hkx.v1 import embed_pb2 as pb

MOST_INPUTS = 8
MOST_BYTES = 16 * 1024
RETRY_S = 1.0


class EmbedStub:
    """A stub of `EmbedService` that sends small `Embed` calls over the stream.

    Args:
        stub: the stub that gRPC generated.
        metadata: sent with the stream.
    """

    def __init__(self, stub: Any, metadata: Sequence[tuple[str, str]]) -> None:
        self._stub = stub
        self._metadata = metadata
        self.Rerank, self.Score, self.Tokenize = stub.Rerank, stub.Score, stub.Tokenize
        self._wanted = asyncio.Event()
        # Whether the worker accepts calls on the stream.
        self._is_open = False
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[pb.EmbedResponse]] = {}
        self._unsent: SendQueue[pb.EmbedCall] = SendQueue()

    async def Embed(  # noqa: N802 - the stub's name
        self, request: pb.EmbedRequest, *, metadata: Sequence[tuple[str, str]], timeout: float
    ) -> pb.EmbedResponse:
        """
        Args:
            timeout: in seconds.
        Raises:
            ServingError, grpc.aio.AioRpcError: the worker refused, failed, or was lost.
        """
        if not is_small(request) or not self._is_open:
            self._wanted.set()
            alone: pb.EmbedResponse
            alone = await self._stub.Embed(request, metadata=metadata, timeout=timeout)
            return alone
        self._last_id += 1
        fields = dict(metadata)
        call = pb.EmbedCall(
            id=self._last_id,
            request=request,
            request_id=fields[REQUEST_ID_KEY],
            trace={key: fields[key] for key in TRACE_KEYS if key in fields},
        )
        waiting: asyncio.Future[pb.EmbedResponse] = asyncio.get_running_loop().create_future()
        self._waiting[call.id] = waiting
        self._unsent.put(call)
        try:
            async with asyncio.timeout(timeout):
                return await waiting
        except TimeoutError:
            raise errors.DeadlineExceeded(ErrorText("request_too_slow")) from None
        finally:
            # It is still there if there was no answer: then this side has given up.
            if self._waiting.pop(call.id, None) is not None:
                self._unsent.put(pb.EmbedCall(id=call.id, cancel=True))

    async def keep_open(self) -> None:
        """Open the stream when there are calls for it, and again when it breaks; until cancelled.

        If it breaks, the calls without an answer fail.
        """
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            call = self._stub.EmbedMany(metadata=self._metadata)
            problem: ServingError = errors.WorkerLost(ErrorText("worker_lost"), retry_after_s=2)
            try:
                async with asyncio.TaskGroup() as tasks:
                    writing = tasks.create_task(self._write(call))
                    await self._read(call)
                    writing.cancel()
            except* grpc.aio.AioRpcError as group:
                error, *_ = group.exceptions
                assert isinstance(error, grpc.aio.AioRpcError)
                problem = serving_error(error)
            except* asyncio.InvalidStateError:
                # The stream ended while a message was written.
                pass
            finally:
                call.cancel()
                self._close(problem)
            await asyncio.sleep(RETRY_S)

    async def _read(self, call: Any) -> None:
        while (message := await call.read()) is not grpc.aio.EOF:
            self._is_open = True
            for reply in message.replies:
                self._receive(reply)

    def _receive(self, reply: pb.EmbedReply) -> None:
        waiting = self._waiting.pop(reply.id, None)
        if waiting is None or waiting.done():
            return
        if reply.HasField("response"):
            waiting.set_result(reply.response)
        else:
            unknown = errors.BackendFailure(ErrorText("worker_failed"))
            waiting.set_exception(error_in_status(reply.status) or unknown)

    async def _write(self, call: Any) -> None:
        while now := await self._unsent.take():
            await call.write(pb.EmbedCalls(calls=now))

    def _close(self, problem: ServingError) -> None:
        self._is_open = False
        self._unsent = SendQueue()
        lost, self._waiting = self._waiting, {}
        for waiting in lost.values():
            if not waiting.done():
                waiting.set_exception(problem)


def is_small(request: pb.EmbedRequest) -> bool:
    return len(request.inputs) <= MOST_INPUTS and request.ByteSize() <= MOST_BYTES
