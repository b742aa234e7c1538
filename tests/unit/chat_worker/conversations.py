"""Conversations that take turns at a scheduler, and checks of what is kept of them."""

import random

from chat_worker.engine.prefix_cache import PrefixCache
from chat_worker.engine.sequence import Sequence
from tests.unit.chat_worker.fake_runner import continuation, held_in, limits
from tests.unit.chat_worker.scheduling import Driver, output, sequence

MIB = 1 << 20
N_NEW = 4
OWN_CELLS = limits(n_slots=4, n_cells=4 * 256, shares_cells=False)


def conversation(number: int, n_tokens: int = 120) -> list[int]:
    return random.Random(number).choices(range(2, 64), k=n_tokens)


def ask(driver: Driver, prompt: list[int], salt: str = "") -> Sequence:
    """The next turn, checked against the model's answer without any cache."""
    one = sequence(prompt, N_NEW, salt)
    driver.run(one)
    assert output(one) == continuation(prompt, N_NEW)
    return one


def n_bytes(cache: PrefixCache) -> int:
    return sum(prefix.state.nbytes for prefix in cache.held)


def check(cache: PrefixCache, max_bytes: int) -> None:
    """What is kept is what it is kept as, and no more than allowed."""
    assert n_bytes(cache) <= max_bytes
    for prefix in cache.held:
        assert held_in(prefix.state) == prefix.tokens
