"""Notices when a client leaves, and cancels the handler of its request.

`send` does nothing after a disconnect, so only `receive` reports it. Without a watcher the worker
would generate the whole answer for a client that is gone.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from common.error_texts import ErrorText
from common.errors import Cancelled, NotReady
from gateway.middleware.request_context import context_of

T = TypeVar("T")
# Most embeddings are done before; a watcher costs 3 to 5 % of such a request.
WATCH_AFTER_S = 0.02


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled and awaited if the client cannot get it any more.

    Call it once the body has been read.

    Raises:
        Cancelled: the client left.
        NotReady: the gateway's drain time is over.
    """
    drain = context_of(request.scope).drain
    working = asyncio.ensure_future(work)
    leaving: asyncio.Task[None] | None = None

    def watch() -> None:
        nonlocal leaving
        leaving = asyncio.ensure_future(_gone(request.receive))
        leaving.add_done_callback(lambda _: working.cancel())

    watching = asyncio.get_running_loop().call_later(WATCH_AFTER_S, watch)
    try:
        with drain.ending(working):
            return await working
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        if leaving is not None and leaving.done():
            raise Cancelled(ErrorText("client_left")) from None
        if drain.expired.is_set():
            raise NotReady(ErrorText("server_stopping"), retry_after_s=5) from None
        raise
    finally:
        watching.cancel()
        if leaving is not None:
            leaving.cancel()


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
