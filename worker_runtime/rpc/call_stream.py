"""Many calls over one RPC: a message of a stream costs a sixth of what an RPC costs.

Each call runs in its own task under its own request id, and ends as an RPC would. Replies that are
ready at the same time are sent in one message.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import grpc.aio

from common.rpc_status import to_status
from common.send_queue import SendQueue
from worker_runtime.rpc.inflight import InflightRpcs


class Call(Protocol):
    """A message of the contract: a new call, or the wish to cancel an open one."""

    @property
    def id(self) -> int: ...
    @property
    def cancel(self) -> bool: ...
    @property
    def request_id(self) -> str: ...
    @property
    def trace(self) -> Mapping[str, str]: ...


class Calls(Protocol):
    """A message of the contract that carries calls."""

    @property
    def calls(self) -> Sequence[Any]: ...


CallT = TypeVar("CallT", bound=Call)
ReplyT = TypeVar("ReplyT")


class CallStream(ABC, Generic[CallT, ReplyT]):
    """The calls of one stream.

    Args:
        method: the calls' name in the log.
        inflight_rpcs: counts each call.
    """

    def __init__(self, method: str, inflight_rpcs: InflightRpcs) -> None:
        self._method = method
        self._inflight_rpcs = inflight_rpcs
        self._running: dict[int, asyncio.Task[None]] = {}
        self._replies: SendQueue[ReplyT] = SendQueue()

    @abstractmethod
    async def answer(self, call: CallT) -> None:
        """Put the replies of a call."""

    @abstractmethod
    def failed(self, id: int, status: bytes) -> ReplyT:
        """The reply of a call that failed with a serialized google.rpc.Status."""

    @abstractmethod
    def message(self, replies: list[ReplyT]) -> Any:
        """The message that carries `replies`; it is sent now."""

    async def run(
        self, messages: AsyncIterator[Calls], context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Serve until the caller sends no more calls and all of them have ended."""
        await context.write(self.message([]))
        async with asyncio.TaskGroup() as writing:
            writing.create_task(self._write(context))
            async with asyncio.TaskGroup() as calls:
                async for message in messages:
                    for call in message.calls:
                        self.take(call, calls)
            self._replies.close()

    def put(self, reply: ReplyT) -> None:
        self._replies.put(reply)

    def take(self, call: CallT, calls: asyncio.TaskGroup) -> None:
        """What the caller wants; new calls become tasks of `calls`."""
        if call.cancel:
            if (task := self._running.pop(call.id, None)) is not None:
                task.cancel()
            return
        task = self._running[call.id] = calls.create_task(self._run(call))
        task.add_done_callback(lambda _: self._running.pop(call.id, None))

    async def _run(self, call: CallT) -> None:
        rpc = self._inflight_rpcs.begin(self._method, call.request_id, call.trace)
        try:
            with self._inflight_rpcs.counted():
                await self.answer(call)
        except BaseException as error:  # noqa: BLE001 - the call's outermost frame
            status = to_status(rpc.problem(error)).SerializeToString()
            self.put(self.failed(call.id, status))
        else:
            rpc.log("OK")

    async def _write(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        while now := await self._replies.take():
            await context.write(self.message(now))
