"""Fair shares between clients: which generation goes to a worker next.

Workers serve in the order of arrival, so a client with 200 requests would keep one with a single
request waiting for all of them. So a model gets only as many generations as it computes at once;
the others wait here, and the next one is that of the client that has had least for its weight.

Source: virtual token counters (Sheng et al. 2024, "Fairness in Serving Large Language Models").
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from common.error_texts import ErrorText
from common.errors import DeadlineExceeded, Overloaded

MOST_WAITING = 1000
RETRY_S = 5.0
# After so long, background work is no longer served after all others.
PATIENCE_S = 60.0
# The weight of a priority p is 2 to the power of p / 2: 4 has twice the share of 2.
PRIORITIES_TO_DOUBLE = 2
# The latest holds count most in the estimate of a wait.
SMOOTHING = 0.2


@dataclass(frozen=True)
class Ask:
    """
    Args:
        model: the id of the model.
        client: whose share it is counted for.
        n_tokens: the cost, estimated.
        n_choices: how many sequences it takes at once.
        priority: of the client's key.
        background: whether it may wait for all that do not.
        within_s: how long it may wait.
    """

    model: str
    client: str
    n_tokens: int
    n_choices: int = 1
    priority: int = 0
    background: bool = False
    within_s: float = 600.0


class Turn:
    """A place in the queue, then a place in the worker.

    Set `n_used` to the tokens that were used, so that the client's share is right.
    """

    def __init__(self, ask: Ask, number: int, now_s: float) -> None:
        self.ask = ask
        self.n_used = ask.n_tokens
        # Set as soon as it has to wait.
        self.granted: asyncio.Future[None] | None = None
        self.number = number
        self.asked_s = self.served_s = now_s

    @property
    def waits(self) -> bool:
        return self.granted is not None and not self.granted.done()


@dataclass
class _Lane:
    """The generations of one model."""

    n_running: int = 0
    waiting: dict[int, Turn] = field(default_factory=dict)
    # What each client has had, in tokens by its weight; how many turns it has or waits for, and
    # how many it has.
    had: dict[str, float] = field(default_factory=dict)
    n_turns: Counter[str] = field(default_factory=Counter)
    n_served: Counter[str] = field(default_factory=Counter)
    # How long a place is held, in seconds.
    hold_s: float = 0.0

    def order(self, turn: Turn, now_s: float) -> tuple[bool, float, int, int]:
        """The smallest is served first."""
        is_late = turn.ask.background and now_s - turn.asked_s < PATIENCE_S
        client = turn.ask.client
        return is_late, self.had[client], self.n_served[client], turn.number

    def greet(self, client: str) -> None:
        """A client's turn comes: one that had none cannot save up for later."""
        if not self.n_turns[client]:
            least = min((self.had[other] for other in self.n_turns if other != client), default=0.0)
            self.had[client] = max(self.had.get(client, 0.0), least)
        self.n_turns[client] += 1

    def part(self, client: str) -> None:
        self.n_turns[client] -= 1
        if not self.n_turns[client]:
            del self.n_turns[client], self.n_served[client]

    def charge(self, ask: Ask, n_tokens: int) -> None:
        """Count tokens for the client of `ask`; negative ones are given back."""
        self.had[ask.client] += n_tokens / 2 ** (ask.priority / PRIORITIES_TO_DOUBLE)


class FairQueue:
    """
    Args:
        capacity: how many sequences a model computes at once now; None: there is no such limit.
    """

    def __init__(self, capacity: Callable[[str], int | None]) -> None:
        self._capacity = capacity
        self._lanes: dict[str, _Lane] = {}
        self._numbers = itertools.count()

    @asynccontextmanager
    async def turn(
        self, ask: Ask, on_wait: Callable[[Turn], None] = lambda _: None
    ) -> AsyncIterator[Turn]:
        """A place in a worker, after a wait for it.

        Args:
            on_wait: called with a turn that has to wait.
        Raises:
            Overloaded: too many wait.
            DeadlineExceeded: its turn did not come in time.
        """
        lane = self._lanes.setdefault(ask.model, _Lane())
        turn = self._enter(lane, ask)
        try:
            if turn.granted is not None:
                on_wait(turn)
                await self._wait(turn, turn.granted)
            yield turn
        finally:
            self._leave(lane, turn)

    def position(self, turn: Turn) -> tuple[int, float]:
        """The place in the queue (1 is next), and the seconds until it is served, estimated."""
        lane = self._lanes[turn.ask.model]
        now_s = asyncio.get_running_loop().time()
        own = lane.order(turn, now_s)
        place = 1 + sum(lane.order(other, now_s) < own for other in lane.waiting.values())
        return place, place * lane.hold_s / max(1, lane.n_running)

    @property
    def n_waiting(self) -> int:
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def _enter(self, lane: _Lane, ask: Ask) -> Turn:
        if len(lane.waiting) >= MOST_WAITING:
            raise Overloaded(
                ErrorText("requests_queue_full", n_requests=len(lane.waiting)),
                retry_after_s=RETRY_S,
            )
        lane.greet(ask.client)
        turn = Turn(ask, next(self._numbers), asyncio.get_running_loop().time())
        lane.waiting[turn.number] = turn
        self._serve(lane, ask.model)
        if turn.number in lane.waiting:
            turn.granted = asyncio.get_running_loop().create_future()
        return turn

    async def _wait(self, turn: Turn, granted: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(turn.ask.within_s):
                await granted
        except TimeoutError:
            raise DeadlineExceeded(ErrorText("turn_too_late")) from None

    def _leave(self, lane: _Lane, turn: Turn) -> None:
        ask = turn.ask
        if lane.waiting.pop(turn.number, None) is None:
            held_s = asyncio.get_running_loop().time() - turn.served_s
            lane.hold_s += SMOOTHING * (held_s - lane.hold_s) if lane.hold_s else held_s
            lane.n_running -= ask.n_choices
            lane.charge(ask, turn.n_used - ask.n_tokens)
            lane.n_served[ask.client] -= 1
        lane.part(ask.client)
        if lane.n_running or lane.waiting:
            self._serve(lane, ask.model)
        else:
            # Shares are of what is contended: whoever comes next begins anew.
            self._lanes.pop(ask.model, None)

    def _serve(self, lane: _Lane, model: str) -> None:
        """Give places to those who are next."""
        now_s = asyncio.get_running_loop().time()
        capacity = self._capacity(model)
        while lane.waiting:
            if len(lane.waiting) == 1:
                (turn,) = lane.waiting.values()
            else:
                turn = min(lane.waiting.values(), key=lambda one: lane.order(one, now_s))
            fits = capacity is None or lane.n_running + turn.ask.n_choices <= capacity
            if not fits and lane.n_running:
                return
            del lane.waiting[turn.number]
            lane.n_running += turn.ask.n_choices
            lane.charge(turn.ask, turn.ask.n_tokens)
            lane.n_served[turn.ask.client] += 1
            turn.served_s = now_s
            if turn.granted is not None and not turn.granted.done():
                turn.granted.set_result(None)
