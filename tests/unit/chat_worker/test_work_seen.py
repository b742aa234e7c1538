"""What a model is used for is counted as kernels compute it, and outlives changes of habits."""

from chat_worker.engine.runner import ScheduledTokens
from chat_worker.engine.work_seen import HALF_TOKENS, WorkSeen
from tests.unit.chat_worker.scheduling import sequence


def prompt(n_tokens: int) -> ScheduledTokens:
    return ScheduledTokens(sequence([1] * n_tokens), 0, 0, n_tokens, 1)


def answer(*guess: int) -> ScheduledTokens:
    return ScheduledTokens(sequence([1, 2]), 0, 1, 1, 1 + len(guess), guess)


def test_prompts_count_in_pieces_and_answers_in_groups() -> None:
    seen = WorkSeen({})
    seen.learn([prompt(96), prompt(32), *[answer() for _ in range(6)]])
    seen.learn([answer(7, 7)])
    assert seen.products == {64: 2.0, 4: 1.0, 1: 5.0}


def test_counting_goes_on_after_a_load() -> None:
    seen = WorkSeen({64: 3.0, 1: 2.0, 9: 5.0})
    seen.learn([answer()])
    assert seen.products == {64: 3.0, 4: 0.0, 1: 3.0}


def test_what_is_long_ago_counts_less() -> None:
    seen = WorkSeen({1: 2.0 * HALF_TOKENS})
    for _ in range(300):
        seen.learn([prompt(1024)])
    products = seen.products
    assert products[64] * 64 > products[1]
    assert sum(n * count for n, count in products.items()) <= 2 * HALF_TOKENS
