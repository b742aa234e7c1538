"""The generations in progress: where each of them stands, and how it is cancelled.

Nothing of a prompt or an answer is kept, only counts and times.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from common.error_texts import ErrorText
from common.errors import Cancelled
from gateway.pool.calls import GenerationCall
from protos.y26hkx.v1 import chat_pb2


@dataclass(frozen=True)
class Origin:
    """The request that a generation belongs to.

    Args:
        client: as limits are counted, "key:<digest prefix>" or "address:<ip>".
        path: the path of the API.
    """

    request_id: str
    client: str
    path: str


@dataclass
class Totals:
    """Sums since the start, from which a viewer computes rates: of tokens as they are generated,
    and of the seconds until the first one."""

    generations: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_tokens: int = 0
    first_token_seconds: float = 0.0


@dataclass(eq=False)
class Running:
    """One generation, from its arrival to its end.

    Args:
        model: the id of the requested model, "" if unknown.
        began_s, first_s: when it arrived and when its first token came, by the monotonic clock.
        call: the present attempt; None before the first.
    """

    origin: Origin
    model: str
    totals: Totals
    began_s: float = field(default_factory=time.monotonic)
    first_s: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    n_tokens: int = 0
    has_started: bool = False
    call: GenerationCall | None = None

    def count(self, event: chat_pb2.GenerateEvent) -> None:
        if event.HasField("delta"):
            self._count_tokens(event.delta.n_tokens)
        elif event.HasField("started"):
            self.has_started = True
            self.prompt_tokens = event.started.prompt_tokens
            self.cached_tokens = event.started.cached_tokens
            self.totals.prompt_tokens += self.prompt_tokens
            self.totals.cached_tokens += self.cached_tokens

    def _count_tokens(self, n_tokens: int) -> None:
        self.n_tokens += n_tokens
        self.totals.completion_tokens += n_tokens
        if self.first_s is None:
            self.first_s = time.monotonic()
            self.totals.first_tokens += 1
            self.totals.first_token_seconds += self.first_s - self.began_s


class RunningGenerations:
    """Those of one gateway, in the order of their arrival."""

    def __init__(self) -> None:
        self._running: dict[Running, None] = {}
        self.totals = Totals()

    def __iter__(self) -> Iterator[Running]:
        return iter(self._running)

    @contextmanager
    def following(self, origin: Origin, model: str) -> Iterator[Running]:
        """A new entry, for as long as its generation lasts."""
        running = Running(origin, model, self.totals)
        self._running[running] = None
        self.totals.generations += 1
        try:
            yield running
        finally:
            del self._running[running]

    def cancel(self, request_id: str, client: str | None) -> int:
        """Cancel the generations of a request, and return how many those were.

        Args:
            client: only those of this client; None: whosever they are.
        """
        found = [
            running.call
            for running in self._running
            if running.origin.request_id == request_id
            and client in (None, running.origin.client)
            and running.call is not None
        ]
        for call in found:
            call.give_up(Cancelled(ErrorText("cancelled_by_operator")))
        return len(found)
