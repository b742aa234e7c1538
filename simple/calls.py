"""Calls a servicer in this process as if it were a worker's gRPC stub."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from inspect import isasyncgenfunction
from typing import Any

import grpc

from common.error_texts import ErrorText
from common.errors import BackendFailure, DeadlineExceeded, ServingError

# One event ahead of the reader, so that the worker packs events for a slow reader.
EVENTS_AHEAD = 1

log = logging.getLogger(__name__)


class LocalStub:
    """Offers the methods of `servicer` with a stub's arguments and errors."""

    def __init__(self, servicer: Any) -> None:
        self._servicer = servicer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._servicer, name)

        def call(request: Any, *, metadata: Any = (), timeout: float | None = None) -> Any:
            if isasyncgenfunction(method):
                return LocalCall(method(request, None), timeout)
            return _guarded(method(request, None), timeout)

        return call


class LocalCall:
    """The stream of one call; the work runs in a task until it ends or is cancelled."""

    def __init__(self, events: Any, timeout_s: float | None) -> None:
        self._events = events
        self._ready: asyncio.Queue[Any] = asyncio.Queue(EVENTS_AHEAD)
        self._error: BaseException | None = None
        self._task = asyncio.create_task(self._run(timeout_s))

    async def read(self) -> Any:
        """The next event; `grpc.aio.EOF` at the end.

        Raises:
            ServingError: the call failed.
            asyncio.CancelledError: the call was cancelled, as in gRPC.
        """
        if self._task.done() and self._ready.empty():
            return self._end()
        event = await self._ready.get()
        return self._end() if event is grpc.aio.EOF else event

    def cancel(self) -> None:
        self._task.cancel()

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (event := await self.read()) is not grpc.aio.EOF:
            yield event

    def _end(self) -> Any:
        if self._error is not None:
            raise self._error
        return grpc.aio.EOF

    async def _run(self, timeout_s: float | None) -> None:
        try:
            await _guarded(self._forward(), timeout_s)
        except ServingError as error:
            self._error = error
        except asyncio.CancelledError as error:
            self._error = error
            # The reader has left or is about to stop.
            while not self._ready.empty():
                self._ready.get_nowait()
            self._ready.put_nowait(grpc.aio.EOF)
            raise
        await self._ready.put(grpc.aio.EOF)

    async def _forward(self) -> None:
        try:
            async for event in self._events:
                await self._ready.put(event)
        finally:
            await self._events.aclose()


async def _guarded(work: Any, timeout_s: float | None) -> Any:
    """Await `work` as a worker would: with a deadline, and without other errors' texts for
    clients."""
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError:
        raise DeadlineExceeded(ErrorText("request_too_slow")) from None
    except ServingError:
        raise
    except Exception as error:
        log.exception("a call failed")
        raise BackendFailure(ErrorText("call_failed_logged")) from error
