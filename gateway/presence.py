"""Is the client still there? A handler that nobody waits for is cancelled.

A raw `send` after a disconnect does nothing, so only `receive` tells; without a watcher the worker
would generate to the end for nobody.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from gateway.request_context import context_of
from protos.errors import Cancelled, NotReady

T = TypeVar("T")


async def gone(receive: Receive) -> None:
    """Return when the client has left; call it once the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_present(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled and awaited if nobody can get it any more.

    Raises:
        Cancelled: the client left.
        NotReady: the gateway's time to drain is over.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone(request.receive))
    ending = asyncio.ensure_future(context_of(request.scope).drain.expired.wait())
    tasks = (working, leaving, ending)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if leaving.done():
            raise Cancelled("the client left")
        raise NotReady("the server is shutting down", retry_after_s=5)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
