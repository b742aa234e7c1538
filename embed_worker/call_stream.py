"""Many calls over one RPC: a message of a stream costs a sixth of what an RPC costs.

Each call runs in its own task under its own request id, and ends as an RPC would. Replies that are
ready at the same time are sent in one message.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio

from common.rpc_status import to_status
from common.send_queue import SendQueue
from protos.y26hkx.v1 import embed_pb2 as pb
from worker_runtime.rpc.inflight import InflightRpcs


class CallStream:
    """The calls of one stream.

    Args:
        method: the calls' name in the log.
        serve: answers one call.
        inflight_rpcs: counts each call.
    """

    def __init__(
        self,
        method: str,
        serve: Callable[[pb.EmbedRequest], Awaitable[pb.EmbedResponse]],
        inflight_rpcs: InflightRpcs,
    ) -> None:
        self._method = method
        self._serve = serve
        self._inflight_rpcs = inflight_rpcs
        self._running: dict[int, asyncio.Task[None]] = {}
        self._replies: SendQueue[pb.EmbedReply] = SendQueue()

    async def run(
        self,
        messages: AsyncIterator[pb.EmbedCalls],
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> None:
        """Serve until the caller sends no more calls and all of them have ended."""
        await context.write(pb.EmbedReplies())
        async with asyncio.TaskGroup() as writing:
            writing.create_task(self._write(context))
            async with asyncio.TaskGroup() as calls:
                async for message in messages:
                    for call in message.calls:
                        self._take(call, calls)
            self._replies.close()

    def _take(self, call: pb.EmbedCall, calls: asyncio.TaskGroup) -> None:
        if call.cancel:
            if (task := self._running.pop(call.id, None)) is not None:
                task.cancel()
            return
        task = self._running[call.id] = calls.create_task(self._answer(call))
        task.add_done_callback(lambda _: self._running.pop(call.id, None))

    async def _answer(self, call: pb.EmbedCall) -> None:
        rpc = self._inflight_rpcs.begin(self._method, call.request_id, call.trace)
        reply = pb.EmbedReply(id=call.id)
        try:
            with self._inflight_rpcs.counted():
                reply.response.CopyFrom(await self._serve(call.request))
        except BaseException as error:  # noqa: BLE001 - the call's outermost frame
            reply.status = to_status(rpc.problem(error)).SerializeToString()
        else:
            rpc.log("OK")
        self._replies.put(reply)

    async def _write(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        while now := await self._replies.take():
            await context.write(pb.EmbedReplies(replies=now))
