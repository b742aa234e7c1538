"""The generations of a request as a stream of JSON events, with a time limit on silence."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING

from gateway.pool.calls import GenerationCall, TimeLimits, started
from gateway.pool.workers import Workers
from gateway.translate.progress import SILENCE, progress_text
from protos.y26hkx.v1 import chat_pb2

if TYPE_CHECKING:
    # It needs a library that is there only where a guard is wanted.
    from gateway.guard.guard import RequestGuard

Translate = Callable[[chat_pb2.GenerateEvent], Iterable[bytes]]
OnEvent = Callable[[chat_pb2.GenerateEvent], None]
# Surrounds each call: what must happen before and after it, and what is told of its events.
Around = Callable[[chat_pb2.GenerateRequest], AbstractAsyncContextManager[OnEvent]]


class GenerationStream:
    """Relays the calls of one request, one after the other.

    Args:
        around: surrounds each call, for limits and metrics.
        guard: what requests and answers may say; None: anything.
    """

    def __init__(
        self,
        workers: Workers,
        request_id: str,
        limits: TimeLimits,
        around: Around,
        guard: "RequestGuard | None" = None,
    ) -> None:
        self._workers = workers
        self._request_id = request_id
        self._limits = limits
        self._around = around
        self._guard = guard
        self._is_checked = False
        self._current: GenerationCall | None = None
        # The id of the requested model; empty: no worker has it.
        self.model = ""
        self.started = chat_pb2.Started()

    async def events(
        self, request: chat_pb2.GenerateRequest, translate: Translate
    ) -> AsyncGenerator[bytes, None]:
        """The translated events of one generation, as they come."""
        async with aclosing(self._all(request)) as events:
            async for event in events:
                for piece in translate(event):
                    yield piece

    async def collect(self, request: chat_pb2.GenerateRequest) -> list[chat_pb2.GenerateEvent]:
        """All events of one generation."""
        async with aclosing(self._all(request)) as events:
            return [event async for event in events]

    async def check(self, requests: Iterable[chat_pb2.GenerateRequest]) -> None:
        """Let the guard see all generations of an API request before the first of them begins; a
        single one is checked as it begins.

        Raises:
            ContentBlocked: and what else `RequestGuard.check` raises.
        """
        self._is_checked = True
        if self._guard is not None:
            for request in requests:
                await self._guard.check(request)

    def waiting(self) -> str:
        """The text of a comment for a waiting client."""
        generation = self._current
        if generation is None or generation.started is not None:
            return SILENCE
        return progress_text(generation.queued, self.model)

    async def _all(
        self, request: chat_pb2.GenerateRequest
    ) -> AsyncGenerator[chat_pb2.GenerateEvent, None]:
        self.model = self._workers.known_id(request.model)
        if self._guard is not None and not self._is_checked:
            await self._guard.check(request)
        guarded = None if self._guard is None else self._guard.events(request)
        async with (
            self._around(request) as on_event,
            started(
                self._workers, request, self._request_id, self._limits, self._watch
            ) as generation,
        ):
            assert generation.started is not None
            self.started = generation.started.started
            silence = _Silence(generation, self._limits.next_s)
            try:
                if guarded is None:
                    on_event(generation.started)
                    yield generation.started
                    async for event in generation.rest():
                        on_event(event)
                        yield event
                    return
                for event in guarded.see(generation.started, on_event):
                    yield event
                async for event in generation.rest():
                    for passed in guarded.see(event, on_event):
                        yield passed
                    if guarded.is_over:
                        return
            finally:
                silence.end()

    def _watch(self, generation: GenerationCall) -> None:
        self._current = generation


class _Silence:
    """Cancels a generation that is silent for too long; an event causes no work here."""

    def __init__(self, generation: GenerationCall, interval_s: float) -> None:
        self._generation = generation
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(interval_s, self._look)

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left_s = self._generation.patience_s
        if left_s > 0:
            self._timer = self._loop.call_later(min(left_s, self._interval_s), self._look)
        else:
            self._generation.give_up()
