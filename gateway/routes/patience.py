"""How long a client says that it waits: work that nobody waits for any more is not done."""

from dataclasses import replace

from starlette.types import Scope

from gateway.middleware.request_context import header
from gateway.pool.calls import TimeLimits

# Seconds for the whole request; and between two bytes, which OpenAI's SDKs send.
WHOLE, BETWEEN = b"x-request-timeout", b"x-stainless-read-timeout"
LEAST_S = 0.001


def patient(limits: TimeLimits, scope: Scope, *, stream: bool) -> TimeLimits:
    """The limits, shortened to what the client's headers say; the worker is told the deadline."""
    given = [_seconds(header(scope, WHOLE))]
    if not stream:
        # Without a stream nothing comes before the whole answer.
        given.append(_seconds(header(scope, BETWEEN)))
    known = [seconds for seconds in given if seconds is not None]
    if not known or (least_s := min(known)) >= limits.whole_s:
        return limits
    return replace(limits, whole_s=least_s, first_s=min(limits.first_s, least_s))


def _seconds(value: str | None) -> float | None:
    """A number of seconds; None if there is none, or it is none that makes sense."""
    try:
        seconds = float((value or "")[:20])
    except ValueError:
        return None
    return max(seconds, LEAST_S) if 0 < seconds < float("inf") else None
