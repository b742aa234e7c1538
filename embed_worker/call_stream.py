"""Embedding calls that share one RPC; each has one reply."""

from collections.abc import Awaitable, Callable

from protos.y26hkx.v1 import embed_pb2 as pb
from worker_runtime.rpc.call_stream import CallStream
from worker_runtime.rpc.inflight import InflightRpcs


class EmbedStream(CallStream[pb.EmbedCall, pb.EmbedReply]):
    """
    Args:
        serve: answers one call.
        inflight_rpcs: counts each call.
    """

    def __init__(
        self,
        serve: Callable[[pb.EmbedRequest], Awaitable[pb.EmbedResponse]],
        inflight_rpcs: InflightRpcs,
    ) -> None:
        super().__init__("EmbedMany", inflight_rpcs)
        self._serve = serve

    async def answer(self, call: pb.EmbedCall) -> None:
        self.put(pb.EmbedReply(id=call.id, response=await self._serve(call.request)))

    def failed(self, id: int, status: bytes) -> pb.EmbedReply:
        return pb.EmbedReply(id=id, status=status)

    def message(self, replies: list[pb.EmbedReply]) -> pb.EmbedReplies:
        return pb.EmbedReplies(replies=replies)
