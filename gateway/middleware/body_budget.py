"""Limits the bytes of all request bodies that are in flight together: even a body within its own
limit may be too much for the memory that is left.

A request's bytes are booked as they arrive and released when the request ends, in whatever way.
The message made from the body, and its wire form, are kept until then, as they may be sent again.
"""

import psutil
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.cgroup import allowances
from common.error_texts import ErrorText
from common.errors import Overloaded
from common.sizes import MIB
from gateway.middleware.request_context import header

# The bytes of memory that one byte of a body takes until its request ends. With embedding requests
# of 7.5 MB, 3.0 (token ids) to 4.3 (emoji) were measured for message and wire form, and 1 for
# gRPC's copy.
GROWTH = 6
# The available memory at the start is divided by this. The other half is left for the one body that
# is being parsed: parsed JSON is up to 13 times as large, or 24 times if it is nonsense.
SHARE = 2
MOST_BYTES = 128 * MIB
# Its bodies go to the disk as they arrive.
FILES = "/v1/files"
RETRY_S = 1.0


class BodyBudget:
    """Counts the bytes of the bodies in flight.

    Args:
        limit_bytes: the limit for all bodies together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.in_flight_bytes = 0

    def check(self, n_bytes: int) -> None:
        """Check that `n_bytes` more are within the limit.

        Raises:
            Overloaded: they are not.
        """
        if self.in_flight_bytes + n_bytes > self._limit_bytes:
            raise Overloaded(
                ErrorText("bodies_in_flight", limit_bytes=self._limit_bytes), retry_after_s=RETRY_S
            )


class BodyBudgetMiddleware:
    def __init__(self, app: ASGIApp, budget: BodyBudget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == FILES:
            await self._app(scope, receive, send)
            return
        # The announced size is not booked: a body that is never sent takes no memory.
        declared = header(scope, b"content-length") or ""
        self._budget.check(int(declared[:20]) if declared.isdecimal() else 0)
        booked = 0

        async def counted() -> Message:
            nonlocal booked
            message = await receive()
            arrived = len(message.get("body", b""))
            self._budget.check(arrived)
            booked += arrived
            self._budget.in_flight_bytes += arrived
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._budget.in_flight_bytes -= booked


def fitting_bytes(least: int) -> int:
    """Return the limit that fits the memory available now to the machine or this container.

    Args:
        least: the size of the largest body, which must be accepted when it is alone.
    """
    left = [group.left_bytes for group in allowances()]
    available = min([int(psutil.virtual_memory().available), *left])
    return max(least, min(available // SHARE // GROWTH, MOST_BYTES))
