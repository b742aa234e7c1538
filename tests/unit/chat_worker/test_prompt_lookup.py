"""Guessed tokens: answers are exactly those without guesses, in fewer steps where text repeats."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_worker.engine.prompt_lookup import SIZES, Costs, PromptLookup
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from tests.unit.chat_worker.fake_runner import FakeRunner, limits, next_token
from tests.unit.chat_worker.test_loop import Observed, running, tokens_of

Says = Callable[[list[int]], int]


def copies(tokens: list[int]) -> int:
    """Says again what stood 12 tokens before."""
    return tokens[-12] if len(tokens) >= 12 else next_token(tokens)


def copies_mostly(tokens: list[int]) -> int:
    return next_token(tokens) if len(tokens) % 7 == 0 else copies(tokens)


def sequence(prompt: list[int], n_new: int, *, guesses: bool, end: int = -1) -> Sequence:
    return Sequence(
        call_id=0,
        choice=0,
        tokens=list(prompt),
        limit=len(prompt) + n_new,
        sampler=Sampler(SamplingParams(temperature=0), prompt),
        end_tokens=frozenset({end}),
        prompt_lookup=PromptLookup() if guesses else None,
    )


def answers(
    says: Says, prompts: list[list[int]], n_new: int, *, guesses: bool, end: int = -1
) -> tuple[list[list[int]], FakeRunner]:
    runner = FakeRunner(limits(n_cells=2048), says=says)
    several = [sequence(prompt, n_new, guesses=guesses, end=end) for prompt in prompts]
    with running(runner) as observed:
        reports = _run(observed, several)
    return [tokens_of(reports, one) for one in several], runner


def _run(observed: Observed, several: list[Sequence]) -> list:  # type: ignore[type-arg]
    observed.loop.begin(several)
    return observed.until_ended(len(several))


@pytest.mark.parametrize("says", [copies, copies_mostly, next_token])
def test_answers_are_those_without_guesses(says: Says) -> None:
    prompts = [list(range(i, i + 20)) for i in range(4)]
    plain, _ = answers(says, prompts, 80, guesses=False)
    guessed, _ = answers(says, prompts, 80, guesses=True)
    assert guessed == plain


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(2, 5), min_size=1, max_size=40), st.integers(1, 60), st.integers(2, 5))
def test_ends_and_limits_hold_in_the_middle_of_a_guess(
    prompt: list[int], n_new: int, end: int
) -> None:
    def few(tokens: list[int]) -> int:
        return 2 + (tokens[-1] + len(tokens) // 11) % 4

    plain, _ = answers(few, [prompt], n_new, guesses=False, end=end)
    guessed, _ = answers(few, [prompt], n_new, guesses=True, end=end)
    assert guessed == plain


def test_repeating_text_takes_a_third_of_the_steps() -> None:
    prompt = list(range(2, 22))
    _, plain = answers(copies, [prompt], 120, guesses=False)
    _, guessed = answers(copies, [prompt], 120, guesses=True)
    assert len(guessed.steps) * 3 < len(plain.steps)


def test_text_that_never_repeats_is_not_guessed() -> None:
    _, runner = answers(next_token, [list(range(2, 22))], 120, guesses=True)
    assert sum(len(item.guess) for step in runner.steps for item in step) == 0


REPEATED = list(range(30)) * 2


def test_wrong_guesses_get_rare() -> None:
    prompt_lookup, costs = PromptLookup(), Costs()
    for n_rows, seconds in ((1, 1.0), (4, 2.0), (8, 3.0), (16, 4.0)):
        costs.learn(n_rows, seconds)
    n_guesses = 0
    for _ in range(400):
        if guess := prompt_lookup.guess(REPEATED, 15, 1, costs):
            n_guesses += 1
            prompt_lookup.learn(len(guess), 0)
    assert 1 <= n_guesses <= 8


def test_right_guesses_grow_as_far_as_their_cost_allows() -> None:
    cheap, dear = Costs(), Costs()
    for n_rows in (1, 4, 8, 16):
        cheap.learn(n_rows, 1 + n_rows / 10)
        dear.learn(n_rows, n_rows)
    for costs, expected in ((cheap, SIZES[-1]), (dear, 0)):
        prompt_lookup = PromptLookup()
        for _ in range(5):
            if guess := prompt_lookup.guess(REPEATED, 100, 1, costs):
                prompt_lookup.learn(len(guess), len(guess))
        assert len(prompt_lookup.guess(REPEATED, 100, 1, costs)) == expected


def test_text_that_goes_round_in_a_small_circle_is_guessed_round() -> None:
    costs = Costs()
    costs.learn(1, 1.0)
    costs.learn(8, 1.1)
    guess = PromptLookup().guess([9, 1, 2, 1, 2, 1, 2], 7, 1, costs)
    assert guess == (1, 2, 1, 2, 1, 2, 1)


def test_nothing_is_evicted_for_a_guess() -> None:
    prompts = [list(range(2, 40)), list(range(2, 40))]
    several = [sequence(prompt, 24, guesses=True) for prompt in prompts]
    for number, one in enumerate(several):
        one.salt = str(number)
    runner = FakeRunner(limits(n_cells=128), says=copies)
    with running(runner) as observed:
        reports = _run(observed, several)
    plain, _ = answers(copies, prompts, 24, guesses=False)
    assert [tokens_of(reports, one) for one in several] == plain
