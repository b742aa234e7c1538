"""Going away without breaking anybody's answer.

begun: not ready any more, connections close after their answer; requests are still accepted,
because load balancers notice late. refusing: new work gets 503. expired: what still runs is ended
with an error.
"""

import asyncio


class Drain:
    def __init__(self) -> None:
        self.begun = False
        self.refusing = False
        self.expired = asyncio.Event()
