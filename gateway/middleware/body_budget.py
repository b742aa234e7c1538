"""How many bytes of bodies may be in flight together: a body that is within its own limit may still
be one too many for the memory that there is.

A request's bytes are booked as they arrive, and given back when it is over, however it ends: what
the body became (a message, its form on the wire) is kept until then, should it be sent again.
"""

import psutil
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.cgroup import allowances
from common.error_texts import ErrorText
from common.errors import Overloaded
from common.sizes import MIB
from gateway.middleware.request_context import header

# Bytes that one byte of a body takes until its request is over. Measured with embeddings of 7.5 MB:
# 3.0 (token ids) to 4.3 (texts with emoji) for message and wire form, 1 for gRPC's copy.
GROWTH = 6
# Of what is available at the start. As much again is left for the one body that is being parsed:
# its JSON is up to 13 times as large, 24 times where it is nonsense.
SHARE = 2
MOST_BYTES = 128 * MIB
RETRY_S = 1.0


class BodyBudget:
    """
    Args:
        limit_bytes: of all bodies together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.in_flight_bytes = 0

    def check(self, n_bytes: int) -> None:
        """
        Raises:
            Overloaded: so many more are too many.
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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Only looked at: a client that announces a body and does not send it takes nothing.
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
    """What fits the memory that is available now, of the machine or this container.

    Args:
        least: the largest body, which must pass when it is alone.
    """
    left = [group.left_bytes for group in allowances()]
    available = min([int(psutil.virtual_memory().available), *left])
    return max(least, min(available // SHARE // GROWTH, MOST_BYTES))
