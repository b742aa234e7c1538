"""Calls that take about the same time: workers are compared by them, and a second may be asked."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from gateway.pool.calls import unary
from gateway.pool.endpoint import Endpoint
from gateway.pool.workers import Workers

T = TypeVar("T")


async def small_unary(
    workers: Workers,
    model: str,
    request_id: str,
    timeout_s: float,
    send: Callable[[Endpoint, Any], Awaitable[T]],
    *,
    hedged: bool,
) -> T:
    """As `unary`, for such a call.

    Args:
        hedged: ask a second worker if the first takes longer than usual.
    """

    async def timed(endpoint: Endpoint, options: Any) -> T:
        # The time of a load tells nothing of the worker.
        is_ready, began_s = endpoint.has_ready(model), time.monotonic()
        answer = await send(endpoint, options)
        took_s = time.monotonic() - began_s
        if is_ready:
            workers.outliers.note_pace(endpoint, model, took_s)
        workers.hedging.note(took_s)
        return answer

    tried: list[Endpoint] = []
    first = unary(workers, model, request_id, timeout_s, timed, tried)
    if not hedged:
        return await first

    def may_ask() -> bool:
        return any(e not in tried for e in workers.serving) and workers.retries.take()

    return await workers.hedging.answer(
        first, may_ask, lambda: unary(workers, model, request_id, timeout_s, timed, [*tried])
    )
