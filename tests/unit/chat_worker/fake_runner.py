"""A deterministic runner without a model: the next token is a function of all tokens before it.

It keeps what every slot holds, so that a policy that reuses the wrong cells gives other tokens, and
it can be told to fail.
"""

from collections.abc import Callable

import numpy as np

from chat_worker.engine.runner import (
    CacheOp,
    ForkSlot,
    Limits,
    RunFailed,
    ScheduledTokens,
    TruncateSlot,
)
from chat_worker.engine.sampling import LogitsRow

N_VOCAB = 64
STATE_BYTES = 8  # of one token in a slot's state


def limits(**changed: int | bool) -> Limits:
    plain: dict[str, int | bool] = {
        "n_parallel": 4,
        "n_slots": 8,
        "n_cells": 1024,
        "n_ctx": 256,
        "n_batch": 64,
        "n_rows": 68,
        "n_vocab": N_VOCAB,
    }
    return Limits(**(plain | changed))  # type: ignore[arg-type]


def next_token(tokens: list[int]) -> int:
    """What the fake model says after `tokens`: 2 and up, so that 0 and 1 are free for tests."""
    state = 7
    for token in tokens:
        state = (state * 31 + token + 1) % 1_000_003
    return 2 + state % (N_VOCAB - 2)


def continuation(prompt: list[int], n_tokens: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(n_tokens):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


class FakeRunner:
    """Implements `chat_worker.engine.runner.Runner`."""

    def __init__(
        self,
        bounds: Limits | None = None,
        *,
        fails: Callable[[list[ScheduledTokens]], bool] = lambda items: False,
        before_run: Callable[[list[ScheduledTokens]], None] = lambda items: None,
        says: Callable[[list[int]], int] = next_token,
    ) -> None:
        self.limits = bounds or limits()
        self.held: list[list[int]] = [[] for _ in range(self.limits.n_slots)]
        self.steps: list[list[ScheduledTokens]] = []
        self.n_computed = 0
        self.is_closed = False
        self.n_sheds = 0
        self._fails = fails
        self._before_run = before_run
        self._says = says

    def apply(self, op: CacheOp) -> None:
        match op:
            case TruncateSlot(slot, length):
                del self.held[slot][length:]
            case ForkSlot(source, target, length):
                assert not self.held[target], "a fork's target is empty"
                self.held[target] = self.held[source][:length]

    def run(self, items: list[ScheduledTokens]) -> list[LogitsRow]:
        self._before_run(items)
        assert items, "an empty batch is not a step"
        assert sum(len(item.tokens) for item in items) <= self.limits.n_batch
        assert sum(item.n_rows for item in items) <= self.limits.n_rows
        self.steps.append(items)
        rows: list[LogitsRow] = []
        for item in items:
            held = self.held[item.slot]
            assert len(held) == item.start, "the slot holds what comes before"
            for index, token in enumerate(item.tokens):
                held.append(token)
                if index >= len(item.tokens) - item.n_rows:
                    rows.append(_row(self._says(held)))
        if self._fails(items):
            raise RunFailed
        self.n_computed += sum(item.n_tokens for item in items)
        return rows

    def length(self, slot: int) -> int:
        return len(self.held[slot])

    def shed(self) -> None:
        assert not any(self.held), "what slots hold would be lost"
        self.n_sheds += 1

    def close(self) -> None:
        self.is_closed = True


class FakeStates:
    """Implements `chat_worker.engine.runner.SlotStates`: a state is the slot's tokens."""

    def __init__(self, runner: FakeRunner) -> None:
        self.refuses = False
        self._runner = runner

    def size(self, slot: int, n_tokens: int) -> int:
        return STATE_BYTES * len(self._runner.held[slot])

    def save(self, slot: int, n_tokens: int) -> memoryview | None:
        assert n_tokens == len(self._runner.held[slot])
        return memoryview(np.array(self._runner.held[slot], np.int64).tobytes())

    def restore(self, state: memoryview, slot: int) -> bool:
        assert not self._runner.held[slot], "a slot is restored while it is empty"
        self._runner.held[slot] = held_in(state)
        return not self.refuses


def held_in(state: memoryview) -> list[int]:
    """The tokens in a state."""
    return [int(token) for token in np.frombuffer(state, np.int64)]


def _row(token: int) -> LogitsRow:
    row = np.zeros(N_VOCAB, np.float32)
    row[token] = 10.0
    return row
