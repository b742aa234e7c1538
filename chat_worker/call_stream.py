"""Generations that share one RPC; each has many replies.

No reader holds up another: a call has one unsent reply at most, and sends no more than a window of
events that its reader has not read. Meanwhile the engine's events wait with the call, which packs
them into its next reply.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from common.rpc_limits import WINDOW_EVENTS
from protos.y26hkx.v1 import chat_pb2 as pb
from worker_runtime.rpc.call_stream import CallStream
from worker_runtime.rpc.inflight import InflightRpcs

Serve = Callable[[pb.GenerateRequest], AsyncGenerator[pb.GenerateEvent, None]]


class GenerateStream(CallStream[pb.GenerateCall, pb.GenerateReply]):
    """
    Args:
        serve: answers one call.
        inflight_rpcs: counts each call.
    """

    def __init__(self, serve: Serve, inflight_rpcs: InflightRpcs) -> None:
        super().__init__("GenerateMany", inflight_rpcs)
        self._serve = serve
        self._windows: dict[int, _Window] = {}

    def take(self, call: pb.GenerateCall, calls: asyncio.TaskGroup) -> None:
        if not call.HasField("n_read"):
            super().take(call, calls)
        elif (window := self._windows.get(call.id)) is not None:
            window.note_read(call.n_read)

    async def answer(self, call: pb.GenerateCall) -> None:
        window = self._windows[call.id] = _Window()
        try:
            async with aclosing(self._serve(call.request)) as events:
                async for event in events:
                    if not window.is_open:
                        await window.opened()
                    window.note_put()
                    self.put(pb.GenerateReply(id=call.id, event=event))
        finally:
            self._windows.pop(call.id, None)
        self.put(pb.GenerateReply(id=call.id, status=b""))

    def failed(self, id: int, status: bytes) -> pb.GenerateReply:
        return pb.GenerateReply(id=id, status=status)

    def message(self, replies: list[pb.GenerateReply]) -> pb.GenerateReplies:
        for reply in replies:
            if (window := self._windows.get(reply.id)) is not None:
                window.note_sent()
        return pb.GenerateReplies(replies=replies)


class _Window:
    """How much of a call may be sent."""

    def __init__(self) -> None:
        self._n_unread = 0
        self._is_unsent = False
        self._waiting: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        return not self._is_unsent and self._n_unread < WINDOW_EVENTS

    async def opened(self) -> None:
        """Wait until it is open."""
        while not self.is_open:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    def note_put(self) -> None:
        self._is_unsent = True
        self._n_unread += 1

    def note_sent(self) -> None:
        self._is_unsent = False
        self._wake()

    def note_read(self, n_events: int) -> None:
        self._n_unread = max(0, self._n_unread - n_events)
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
