"""What replies say about limits: OpenAI's headers, and those of the IETF's draft beside them.

Source: draft-ietf-httpapi-ratelimit-headers-10, "RateLimit header fields for HTTP".
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

Headers = list[tuple[bytes, bytes]]


class LimitState(NamedTuple):
    """One limit of a client after this request was counted.

    Args:
        name: of the limit; different from the client's other limits.
        unit: "requests" or "tokens".
        quota: how many units in a window.
        window_s: the length of the window.
        left: how many units are left.
        reset_s: seconds until all are.
    """

    name: str
    unit: str
    quota: int
    window_s: int
    left: int
    reset_s: float


def limit_headers(states: Sequence[LimitState]) -> Headers:
    """The headers for all limits of a client."""
    headers: Headers = []
    nearest: dict[str, LimitState] = {}
    for state in states:
        known = nearest.get(state.unit)
        if known is None or state.left < known.left:
            nearest[state.unit] = state
    for unit, state in nearest.items():
        limit, left, reset = _NAMES[unit]
        headers += [
            (limit, b"%d" % state.quota),
            (left, b"%d" % state.left),
            (reset, b"%ds" % math.ceil(state.reset_s)),
        ]
    now = [f'"{s.name}";r={s.left};t={math.ceil(s.reset_s)}' for s in states]
    policies = _policies(tuple((s.name, s.quota, s.window_s) for s in states))
    return [*headers, (b"ratelimit-policy", policies), (b"ratelimit", ", ".join(now).encode())]


_NAMES = {
    unit: tuple(f"x-ratelimit-{what}-{unit}".encode() for what in ("limit", "remaining", "reset"))
    for unit in ("requests", "tokens")
}


@lru_cache(1024)
def _policies(limits: tuple[tuple[str, int, int], ...]) -> bytes:
    """They are the same for all requests of a key."""
    return ", ".join(
        f'"{name}";q={quota};w={window_s}' for name, quota, window_s in limits
    ).encode()
