"""What replies say about limits: OpenAI's headers, and those of the IETF's draft beside them.

Source: draft-ietf-httpapi-ratelimit-headers-10, "RateLimit header fields for HTTP".
"""

import math
from collections.abc import Sequence
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
    for unit in ("requests", "tokens"):
        of_unit = [state for state in states if state.unit == unit]
        if of_unit:
            state = min(of_unit, key=lambda one: one.left)
            headers += [
                (f"x-ratelimit-limit-{unit}".encode(), b"%d" % state.quota),
                (f"x-ratelimit-remaining-{unit}".encode(), b"%d" % state.left),
                (f"x-ratelimit-reset-{unit}".encode(), b"%ds" % math.ceil(state.reset_s)),
            ]
    policies = ", ".join(f'"{s.name}";q={s.quota};w={s.window_s}' for s in states)
    now = ", ".join(f'"{s.name}";r={s.left};t={math.ceil(s.reset_s)}' for s in states)
    return [*headers, (b"ratelimit-policy", policies.encode()), (b"ratelimit", now.encode())]
