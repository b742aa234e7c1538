"""The generations in progress: where each of them stands, and how it is cancelled.

Nothing of a prompt or an answer is kept, only counts and times.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from common.error_texts import ErrorText
from common.errors import Cancelled, ServingError
from protos.y26hkx.v1 import chat_pb2

# The time of fewer says little of a token's.
LEAST_TOKENS = 8


class Cancellable(Protocol):
    """A call to a worker."""

    queued: chat_pb2.Queued

    def give_up(self, reason: ServingError) -> None: ...


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
    """One generation, from when it asks for a worker to its end.

    Args:
        request_id: of the request that it belongs to; one request may have several.
        owner: the `cache_salt` of the client's key; empty where no key is needed.
        model: the id of the requested model; empty if no worker has it.
        began_s, first_s: its beginning and its first token, by the monotonic clock.
        call: the present attempt; None while no worker is free for it.
        pace_s: seconds of a token, as the worker measured them: a client that reads slowly delays
            what arrives here. 0: it is not over, or had few tokens.
    """

    request_id: str
    owner: str
    model: str
    totals: Totals
    began_s: float = field(default_factory=time.monotonic)
    first_s: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    n_tokens: int = 0
    has_started: bool = False
    call: Cancellable | None = None
    pace_s: float = 0.0

    def count(self, event: chat_pb2.GenerateEvent) -> None:
        if event.HasField("delta"):
            self._count_tokens(event.delta.n_tokens)
        elif event.HasField("started"):
            self.has_started = True
            self.prompt_tokens = event.started.prompt_tokens
            self.cached_tokens = event.started.cached_tokens
            self.totals.prompt_tokens += self.prompt_tokens
            self.totals.cached_tokens += self.cached_tokens
        elif event.HasField("finished"):
            n_tokens = event.finished.usage.completion_tokens
            if n_tokens >= LEAST_TOKENS:
                self.pace_s = event.finished.timings.decode_s / n_tokens

    def _count_tokens(self, n_tokens: int) -> None:
        self.n_tokens += n_tokens
        self.totals.completion_tokens += n_tokens
        if self.first_s is None:
            self.first_s = time.monotonic()
            self.totals.first_tokens += 1
            self.totals.first_token_seconds += self.first_s - self.began_s


class RunningGenerations:
    """Those of one gateway, in the order in which they began."""

    def __init__(self) -> None:
        self._running: dict[Running, None] = {}
        self.totals = Totals()

    def __iter__(self) -> Iterator[Running]:
        return iter(self._running)

    @contextmanager
    def following(self, request_id: str, owner: str, model: str) -> Iterator[Running]:
        """A new entry, for as long as its generation lasts."""
        running = Running(request_id, owner, model, self.totals)
        self._running[running] = None
        self.totals.generations += 1
        try:
            yield running
        finally:
            del self._running[running]

    def cancel(self, request_id: str, owner: str | None) -> int:
        """Cancel the generations of a request, and return how many those were.

        Args:
            owner: only those of this one; None: whosever they are.
        """
        found = [
            running.call
            for running in self._running
            if running.request_id == request_id
            and owner in (None, running.owner)
            and running.call is not None
        ]
        for call in found:
            call.give_up(Cancelled(ErrorText("cancelled_by_operator")))
        return len(found)
