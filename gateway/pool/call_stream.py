"""Small calls as messages of one stream to a worker.

A message costs a sixth of an RPC, on both sides, and calls that begin together share a message.
Large calls stay separate RPCs, because on the stream they would delay the small ones.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import grpc

from common import errors
from common.error_texts import ErrorText
from common.errors import ServingError
from common.send_queue import SendQueue
from common.tracing import TRACE_KEYS
from gateway.pool.call_errors import error_in_status, serving_error

CallT = TypeVar("CallT")
ReplyT = TypeVar("ReplyT")
WaitingT = TypeVar("WaitingT")
RETRY_S = 1.0


class CallStream(ABC, Generic[CallT, ReplyT, WaitingT]):
    """The stream, and those that wait for replies on it.

    Args:
        stub: the stub that gRPC generated, for the stream and for calls beside it.
        metadata: sent with the stream.
    """

    def __init__(self, stub: Any, metadata: Sequence[tuple[str, str]]) -> None:
        self._stub = stub
        self._metadata = metadata
        self._wanted = asyncio.Event()
        # Whether the worker accepts calls on the stream.
        self._is_open = False
        self._last_id = 0
        self._waiting: dict[int, WaitingT] = {}
        self._unsent: SendQueue[CallT] = SendQueue()

    @abstractmethod
    def open(self, metadata: Sequence[tuple[str, str]]) -> Any:
        """Begin the RPC."""

    @abstractmethod
    def message(self, calls: list[CallT]) -> Any:
        """The message that carries `calls`."""

    @abstractmethod
    def receive(self, reply: ReplyT) -> None:
        """Pass a reply on to who waits for it, unless nobody does any more."""

    @abstractmethod
    def fail(self, waiting: WaitingT, problem: ServingError) -> None:
        """Tell one who waits that there will be no reply."""

    def takes(self, *, is_small: bool) -> bool:
        """Whether a call can be sent on the stream now."""
        if is_small and self._is_open:
            return True
        self._wanted.set()
        return False

    def new_id(self, waiting: WaitingT) -> int:
        """The id of a new call for which `waiting` waits."""
        self._last_id += 1
        self._waiting[self._last_id] = waiting
        return self._last_id

    def put(self, call: CallT) -> None:
        self._unsent.put(call)

    async def keep_open(self) -> None:
        """Open the stream when there are calls for it, and again when it breaks; until cancelled.

        If it breaks, the calls without an answer fail.
        """
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            call = self.open(self._metadata)
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
                self.receive(reply)

    async def _write(self, call: Any) -> None:
        while now := await self._unsent.take():
            await call.write(self.message(now))

    def _close(self, problem: ServingError) -> None:
        self._is_open = False
        self._unsent = SendQueue()
        lost, self._waiting = self._waiting, {}
        for waiting in lost.values():
            self.fail(waiting, problem)


def trace_headers(metadata: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Of the metadata of a call, the headers of W3C Trace Context."""
    return {key: value for key, value in metadata if key in TRACE_KEYS}


def error_of_reply(status: bytes) -> ServingError:
    """The error in a reply."""
    return error_in_status(status) or errors.BackendFailure(ErrorText("worker_failed"))
