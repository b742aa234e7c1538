"""How long work takes, by the fastest that was seen: other programs only make work slower."""

import math


class Pace:
    """The time that an amount of one kind of work takes.

    Args:
        unknown_s: the time that is assumed before anything was measured.
    """

    def __init__(self, unknown_s: float) -> None:
        self._unknown_s = unknown_s
        self._s_each = math.inf

    def learn(self, amount: int, seconds: float) -> None:
        if amount > 0 and seconds > 0:
            self._s_each = min(self._s_each, seconds / amount)

    def seconds(self, amount: int) -> float:
        return self._unknown_s if self._s_each == math.inf else self._s_each * amount
