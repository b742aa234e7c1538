"""Calls to workers: one retry before the first event, time limits, and cancellation in any case.

A call is retried only for the errors in `RETRIED` and only before its first event: on another
worker, on the same one if only its engine process died, or on the next one that serves; and only
within the retry budget.
"""

import asyncio
import contextlib
import functools
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from common import errors, tracing
from common.error_texts import ErrorText
from common.errors import ServingError
from common.rpc_limits import REQUEST_ID_KEY
from gateway.pool.balance import least_outstanding, sticky
from gateway.pool.call_errors import error_of, serving_error
from gateway.pool.endpoint import Endpoint
from gateway.pool.running import Running
from gateway.pool.workers import Workers
from protos.y26hkx.v1 import chat_pb2, worker_pb2

T = TypeVar("T")
# A worker ends its stream within milliseconds after the last event.
END_S = 1.0
RETRIED = (errors.NotReady, errors.WorkerLost, errors.Overloaded)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimeLimits:
    """Times in seconds: until the first event, between two events, and for the whole call."""

    first_s: float
    next_s: float
    whole_s: float


class GenerationCall:
    """One Generate call, which is queued or has begun to answer; `started` creates it."""

    def __init__(self, call: Any, limits: TimeLimits, running: Running) -> None:
        self._call = call
        self._limits = limits
        self._running = running
        self.queued = chat_pb2.Queued()
        self.started: chat_pb2.GenerateEvent | None = None
        # When the latest event arrived, by the monotonic clock.
        self._latest_s = time.monotonic()
        self._has_answered = False
        self._given_up: ServingError | None = None

    async def start(self) -> chat_pb2.GenerateEvent:
        """Read up to the `started` event.

        Raises:
            ServingError: the worker refused or failed.
        """
        async with _time_limit(self._limits.first_s):
            while self.started is None:
                event = await self._read()
                if event.HasField("queued"):
                    self.queued = event.queued
                else:
                    self.started = event
        return self.started

    async def rest(self) -> AsyncIterator[chat_pb2.GenerateEvent]:
        """The events after `started`, up to and with `finished`."""
        while True:
            event = await self._read()
            self._has_answered = True
            is_last = event.HasField("finished")
            if is_last:
                await self._let_end()
            yield event
            if is_last:
                return

    @property
    def patience_s(self) -> float:
        """How much longer it may be silent; a prefill may take longer than a token."""
        limit_s = self._limits.next_s if self._has_answered else self._limits.first_s
        return limit_s - (time.monotonic() - self._latest_s)

    def give_up(self, reason: ServingError | None = None) -> None:
        """Cancel the call; its reader gets `reason`, by default that the worker was silent."""
        self._given_up = reason or errors.DeadlineExceeded(ErrorText("worker_silent"))
        self._call.cancel()

    async def _read(self) -> chat_pb2.GenerateEvent:
        try:
            event = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise serving_error(error) from None
        except asyncio.CancelledError:
            # gRPC also raises it for a cancelled call, when the task itself is not cancelled.
            task = asyncio.current_task()
            if self._given_up and task is not None and not task.cancelling():
                raise self._given_up from None
            raise
        self._latest_s = time.monotonic()
        if event is grpc.aio.EOF:
            raise await self._end()
        assert isinstance(event, chat_pb2.GenerateEvent)
        self._running.count(event)
        return event

    async def _let_end(self) -> None:
        """Wait for the end of a stream whose last event has come: cancelled now, the call would
        look like a failure to its worker."""
        # The answer is complete: how the stream ends, or whether it does, changes nothing.
        with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(END_S):
                await self._call.read()

    async def _end(self) -> ServingError:
        """Why the stream ended before `finished`."""
        if await self._call.code() is grpc.StatusCode.OK:
            return errors.WorkerLost(ErrorText("answer_broken_off"), retry_after_s=1)
        metadata = await self._call.trailing_metadata()
        return error_of(await self._call.code(), metadata)


@contextlib.asynccontextmanager
async def started(
    workers: Workers,
    request: chat_pb2.GenerateRequest,
    request_id: str,
    limits: TimeLimits,
    on_begin: Callable[[GenerationCall], None] = lambda _: None,
) -> AsyncIterator[GenerationCall]:
    """A generation whose `started` event has arrived, at the first or the second attempt.

    Args:
        on_begin: called with each generation before it has started, to watch its queue position.
    """
    tried: list[Endpoint] = []
    model = workers.known_id(request.model)
    key = _key(request)
    pick = functools.partial(sticky, key=key)
    workers.retries.earn()
    with workers.generations.following(request_id, request.cache_salt, model) as running:
        while True:
            endpoint = await workers.pick(
                request.model, pick, _excluded(workers, tried), lambda: _point(key)
            )
            tried.append(endpoint)
            endpoint.n_outstanding += 1
            call = endpoint.chat.Generate(
                request, metadata=_metadata(endpoint, request_id), timeout=limits.whole_s
            )
            running.call = generation = GenerationCall(call, limits, running)
            try:
                on_begin(generation)
                await generation.start()
                workers.outliers.note_answer(endpoint)
                yield generation
                if running.pace_s:
                    workers.outliers.note_pace(endpoint, model, running.pace_s)
                return
            except ServingError as error:
                workers.outliers.note_error(endpoint, error)
                has_begun = generation.started is not None
                if has_begun or not await _can_retry(workers, tried, error):
                    raise
            finally:
                call.cancel()
                endpoint.n_outstanding -= 1


async def unary(
    workers: Workers,
    model: str,
    request_id: str,
    timeout_s: float,
    send: Callable[[Endpoint, Any], Awaitable[T]],
    tried: list[Endpoint] | None = None,
) -> T:
    """The reply of one unary call.

    Args:
        send: makes the call on an endpoint, with keyword arguments for metadata and timeout.
        tried: workers that are not asked if there are others; it gets those that are.
    """
    tried = [] if tried is None else tried
    if not tried:
        workers.retries.earn()
    while True:
        endpoint = await workers.pick(model, least_outstanding, _excluded(workers, tried))
        tried.append(endpoint)
        endpoint.n_outstanding += 1
        options = {"metadata": _metadata(endpoint, request_id), "timeout": timeout_s}
        try:
            answer = await send(endpoint, options)
        except (grpc.aio.AioRpcError, ServingError) as error:
            problem = error if isinstance(error, ServingError) else serving_error(error)
            workers.outliers.note_error(endpoint, problem)
            if not await _can_retry(workers, tried, problem):
                raise problem from None
        else:
            workers.outliers.note_answer(endpoint)
            return answer
        finally:
            endpoint.n_outstanding -= 1


async def rescan(endpoint: Endpoint, timeout_s: float) -> worker_pb2.RescanModelsResponse:
    """Let a worker scan its models folder again, and return what it found."""
    try:
        found = await endpoint.worker.RescanModels(
            worker_pb2.RescanModelsRequest(), metadata=endpoint.metadata, timeout=timeout_s
        )
    except grpc.aio.AioRpcError as error:
        raise serving_error(error) from None
    assert isinstance(found, worker_pb2.RescanModelsResponse)
    return found


def _excluded(workers: Workers, tried: list[Endpoint]) -> list[Endpoint]:
    """The endpoints that were tried, unless there is no other."""
    others = tried and [endpoint for endpoint in workers.serving if endpoint not in tried]
    return tried if others else []


async def _can_retry(workers: Workers, tried: list[Endpoint], error: ServingError) -> bool:
    if not isinstance(error, RETRIED) or len(tried) > 1:
        return False
    if not any(endpoint not in tried for endpoint in workers.serving):
        # Either only its engine process died, and it starts a new one, or the worker itself is
        # gone: then the next attempt waits until one serves.
        await tried[0].check()
        if not isinstance(error, errors.WorkerLost) and tried[0].serving:
            return False
    return workers.retries.take()


def _key(request: chat_pb2.GenerateRequest) -> int:
    """Model, system prompt and first user message: the same for all turns of a conversation."""
    digest = hashlib.blake2b(request.model.encode(), digest_size=8)
    for message in request.conversation.messages:
        digest.update(message.content.encode("utf-8", "replace"))
        if message.role == "user":
            break
    return int.from_bytes(digest.digest(), "big")


def _point(key: int) -> float:
    """Where a conversation stands between 0 and 1, by which it stays with its version."""
    return (key >> 32) / 2**32


def _metadata(endpoint: Endpoint, request_id: str) -> tuple[tuple[str, str], ...]:
    metadata = (*endpoint.metadata, (REQUEST_ID_KEY, request_id))
    span = tracing.current.get()
    return metadata if span is None else (*metadata, *span.headers.items())


@contextlib.asynccontextmanager
async def _time_limit(limit_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise errors.DeadlineExceeded(
            ErrorText("no_first_token", limit_s=limit_s),
            suggestions=(ErrorText("raise_time_limits"),),
        ) from None
