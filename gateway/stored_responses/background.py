"""Makes responses in the background: without their client, which can follow and cancel them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from common.error_texts import ErrorText
from common.errors import BackendFailure, NotReady, Overloaded, RateLimited, ServingError
from gateway.translate.responses_reply import ResponseBuilder
from gateway.transport.drain import Drain, cancel_once

RETRY_AFTER_S = 5

log = logging.getLogger(__name__)


class BackgroundResponse:
    """One response and its events so far.

    Args:
        reply: builds the response.
        source: its events; the worker is called when they are read. It stores a response that is
            whole before the last of them.
        describe: makes the envelope of an error.
        keep: stores the response as it is then.
        end: called when there are no more events.
    """

    def __init__(
        self,
        reply: ResponseBuilder,
        source: AsyncGenerator[bytes, None],
        describe: Callable[[ServingError], dict[str, Any]],
        keep: Callable[[], Awaitable[object]],
        end: Callable[["BackgroundResponse"], Awaitable[None]],
    ) -> None:
        self.reply = reply
        # An event's place here is its `sequence_number`.
        self.events = list(reply.queue())
        self.is_cancelled = False
        self._source = source
        self._describe = describe
        self._keep = keep
        self._end = end
        self._has_ended = False
        self._news = asyncio.Event()

    async def follow(self, after: int = -1) -> AsyncGenerator[bytes, None]:
        """Yield the events behind the one with the number `after`, up to the last one."""
        at = after + 1
        while True:
            while at < len(self.events):
                yield self.events[at]
                at += 1
            if self._has_ended:
                return
            await self._news.wait()

    async def make(self) -> None:
        """Make the response; it is stored as it begins and as it ends, whatever that is."""
        try:
            await self._generate()
            if not self.reply.is_whole:
                await self._keep()
            await self._end(self)
        finally:
            self._has_ended = True
            self._tell()

    async def _generate(self) -> None:
        try:
            await self._keep()
            async with aclosing(self._source) as events:
                async for event in events:
                    self.events.append(event)
                    self._tell()
        except ServingError as error:
            self._fail(error)
        except asyncio.CancelledError:
            # Only `BackgroundResponses` and the drain cancel it, and what there is gets stored.
            if self.is_cancelled:
                self.reply.cancel()
            else:
                self._fail(NotReady(ErrorText("server_stopping"), retry_after_s=RETRY_AFTER_S))
        except Exception:
            # The outermost frame of a task that nobody else looks at.
            log.exception("a response in the background failed")
            self._fail(BackendFailure(ErrorText("gateway_failed")))

    def _fail(self, error: ServingError) -> None:
        self.events += self.reply.broken(self._describe(error))

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class BackgroundResponses:
    """The responses in progress of all owners; each owner reaches only their own.

    Args:
        most: the limit for all owners together.
        most_each: the limit for one owner; 0: none of their own.
        drain: ends what is still in progress when the gateway stops.
    """

    def __init__(self, most: int, most_each: int, drain: Drain) -> None:
        self._most = most
        self._most_each = most_each
        self._drain = drain
        self._running: dict[tuple[str, str], tuple[BackgroundResponse, asyncio.Task[None]]] = {}

    def begin(self, owner: str, response: BackgroundResponse) -> None:
        """Make a response from now on.

        Raises:
            RateLimited: the owner has too many in progress.
            Overloaded: all owners together have.
        """
        self._require_room(owner)
        key = (owner, response.reply.id)
        task = asyncio.ensure_future(response.make())
        self._running[key] = (response, task)
        self._drain.background.add(task)
        task.add_done_callback(self._drain.background.discard)
        task.add_done_callback(lambda _: self._running.pop(key))

    def find(self, owner: str, id: str) -> BackgroundResponse | None:
        """Return a response in progress; None if there is none with this id."""
        found = self._running.get((owner, id))
        return None if found is None else found[0]

    async def cancel(self, owner: str, id: str) -> bool:
        """End a response and wait until it is stored; return whether it was in progress."""
        found = self._running.get((owner, id))
        if found is None:
            return False
        response, task = found
        response.is_cancelled = True
        cancel_once(task)
        await asyncio.wait({task})
        return True

    async def close(self) -> None:
        """End all responses and wait until they are stored."""
        tasks = {task for _, task in self._running.values()}
        for task in tasks:
            cancel_once(task)
        if tasks:
            await asyncio.wait(tasks)

    def _require_room(self, owner: str) -> None:
        own = sum(running == owner for running, _ in self._running)
        if self._most_each and own >= self._most_each:
            said = ErrorText("too_many_at_once", most=self._most_each)
            raise RateLimited(said, retry_after_s=RETRY_AFTER_S)
        if len(self._running) >= self._most:
            said = ErrorText("background_full", most=self._most)
            raise Overloaded(said, retry_after_s=RETRY_AFTER_S)
