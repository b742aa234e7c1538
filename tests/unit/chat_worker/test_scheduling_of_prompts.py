"""How much of which prompts a step computes, and when answers wait for it."""

import pytest

from chat_worker.engine.prefill import ALONE_S, ALONE_TOKENS, PIECE_S, WHOLE
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.sequence import Sequence
from chat_worker.engine.step_costs import FIRST_TOKENS
from chat_worker.engine.turns import ANSWER_TOKENS, FLOW_S
from tests.unit.chat_worker.fake_runner import limits
from tests.unit.chat_worker.scheduling import Driver, learn_speed, sequence

TOKEN_S, ANSWER_S = 0.01, 0.1
MOST_WAIT_S = 2.5


def scheduler(*, splits: bool = True) -> Scheduler:
    made = Scheduler(limits(n_batch=512, n_cells=16384, n_ctx=16384, splits=splits), MOST_WAIT_S)
    learn_speed(made, TOKEN_S, ANSWER_S)
    return made


def reading(made: Scheduler, n_generated: int = 2) -> Sequence:
    """An answer that has so many tokens."""
    answer = sequence([5], n_new=1000)
    made.add(answer)
    for _ in range(n_generated):
        plan, _ = made.schedule()
        made.commit(plan.items, ANSWER_S)
        answer.tokens.append(7)
    return answer


def waits(made: Scheduler, answer: Sequence, *prompts: Sequence) -> list[float]:
    """The waits of the answer between its tokens in seconds, until the prompts are computed; they
    want one token."""
    found = [0.0]
    while any(prompt.n_pending > 1 for prompt in prompts):
        plan, _ = made.schedule()
        n_prompt = sum(item.n_tokens for item in plan.items if item.sequence in prompts)
        goes_on = any(item.sequence is answer for item in plan.items)
        seconds = n_prompt * TOKEN_S + goes_on * ANSWER_S
        found[-1] += seconds
        made.commit(plan.items, seconds)
        for prompt in prompts:
            if not prompt.n_pending:
                made.remove(prompt)
        if goes_on:
            answer.tokens.append(7)
            found.append(0.0)
    return found


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    driver = Driver()
    long, short = sequence([3] * 250), sequence([5] * 10, n_new=20)
    driver.scheduler.add(long)
    driver.scheduler.add(short)
    driver.step()
    assert short.n_generated == 1
    assert long.n_computed < 250


def test_answers_wait_for_a_prompt_that_is_soon_done_and_then_go_on_with_it() -> None:
    made = scheduler()
    answer = reading(made)
    prompt = sequence([3] * 200)
    made.add(prompt)
    found = waits(made, answer, prompt)
    assert found == [pytest.approx(200 * TOKEN_S, rel=0.05)]


def test_beside_a_prompt_that_takes_longer_an_answer_goes_on_all_the_time() -> None:
    made = scheduler()
    answer = reading(made)
    prompt = sequence([3] * 2000)
    made.add(prompt)
    found = waits(made, answer, prompt)
    assert len(found) > 20
    assert sorted(found)[len(found) * 9 // 10] < FLOW_S + 2 * ANSWER_S
    assert max(found) < MOST_WAIT_S * 1.05
    # Most of the time was the prompt's.
    assert sum(found) < 2000 * TOKEN_S / 0.7


@pytest.mark.parametrize(("together_s", "n_least", "n_most"), [(1.6, 40, 80), (0.2, 10, 25)])
def test_beside_many_prompts_answers_wait_as_long_as_it_makes_their_tokens_cheaper(
    together_s: float, n_least: int, n_most: int
) -> None:
    made = Scheduler(
        limits(n_parallel=16, n_batch=512, n_cells=16384, n_ctx=16384, splits=True), MOST_WAIT_S
    )
    learn_speed(made, TOKEN_S, ANSWER_S)
    made.costs.answers.learn(9, together_s)
    answer = reading(made)
    prompts = [sequence([9 + n] * 400) for n in range(8)]
    for prompt in prompts:
        made.add(prompt)
    found = waits(made, answer, *prompts)
    assert max(found) < MOST_WAIT_S * 1.1 + ANSWER_S
    assert n_least < len(found) < n_most


def test_prompts_that_keep_arriving_share_one_wait_and_then_it_is_the_answers_turn() -> None:
    made = scheduler()
    answer = reading(made)
    waited_s, n_answers, worst_s = 0.0, 0, 0.0
    for n in range(60):
        prompt = sequence([9 + n % 50] * 100)
        made.add(prompt)
        plan, _ = made.schedule()
        goes_on = any(item.sequence is answer for item in plan.items)
        seconds = ANSWER_S if goes_on else sum(i.n_tokens for i in plan.items) * TOKEN_S
        made.commit(plan.items, seconds)
        if goes_on:
            answer.tokens.append(7)
        made.remove(prompt)
        waited_s = 0.0 if goes_on else waited_s + seconds
        worst_s, n_answers = max(worst_s, waited_s), n_answers + goes_on
    assert FLOW_S < worst_s < MOST_WAIT_S * 1.05
    assert n_answers >= 60 / ANSWER_TOKENS


def test_answers_that_nobody_reads_yet_wait_longer_and_then_go_on_together() -> None:
    made = scheduler()
    reading(made, n_generated=1)
    several = [sequence([9 + n] * 200) for n in range(3)]
    for one in several:
        made.add(one)
    n_steps = 0
    while any(one.n_pending > 1 for one in several):
        plan, _ = made.schedule()
        assert all(item.n_tokens > 1 for item in plan.items)
        made.commit(plan.items, sum(item.n_tokens for item in plan.items) * TOKEN_S)
        for item in plan.items:
            if item.completes:
                item.sequence.tokens.append(7)
        n_steps += 1
    assert sum(200 * TOKEN_S for _ in several) > MOST_WAIT_S
    plan, _ = made.schedule()
    assert len(plan.items) == 4


def test_where_a_mixed_step_costs_little_more_answers_go_on_in_every_step() -> None:
    made = scheduler(splits=False)
    answer = reading(made)
    made.add(sequence([3] * 300))
    for _ in range(5):
        plan, _ = made.schedule()
        assert {item.n_tokens == 1 for item in plan.items} == {True, False}
        made.commit(plan.items, FLOW_S)
        answer.tokens.append(7)


def test_where_it_turns_out_that_mixed_steps_cost_as_much_as_two_there_are_no_more() -> None:
    made = scheduler(splits=False)
    answer = reading(made)
    made.add(sequence([3] * 8000))
    n_mixed = 0
    for _ in range(40):
        plan, _ = made.schedule()
        n_prompt = sum(item.n_tokens for item in plan.items if item.n_tokens > 1)
        goes_on = any(item.n_tokens == 1 for item in plan.items)
        n_mixed += bool(n_prompt and goes_on)
        made.commit(plan.items, n_prompt * TOKEN_S + goes_on * ANSWER_S)
        if goes_on:
            answer.tokens.append(7)
    assert 0 < n_mixed < 20


@pytest.mark.parametrize(("slow_s", "n_slow"), [(0.01, ALONE_TOKENS), (0.05, ALONE_S / 0.05)])
def test_pieces_grow_until_they_take_about_their_time_and_shrink_when_they_take_longer(
    slow_s: float, n_slow: float
) -> None:
    made = Scheduler(limits(n_batch=1024, n_cells=32768, n_ctx=32768))
    long = sequence([3] * 32_000)
    made.add(long)
    sizes: list[int] = []
    for seconds_per_token in [0.002] * 8 + [slow_s] * 32:
        plan, _ = made.schedule()
        sizes.append(plan.items[0].n_tokens)
        made.commit(plan.items, sizes[-1] * seconds_per_token)
    assert sizes[0] == FIRST_TOKENS
    assert max(sizes) * 0.002 == pytest.approx(PIECE_S * WHOLE, rel=0.3)
    assert sizes[-1] == pytest.approx(n_slow, rel=0.3)


@pytest.mark.parametrize(
    ("seconds", "n_first"), [(PIECE_S, 80), (ALONE_TOKENS * TOKEN_S * 0.9, 230), (3.0, 256)]
)
def test_a_prompt_that_fits_into_a_piece_is_computed_whole(seconds: float, n_first: int) -> None:
    made = scheduler()
    made.add(sequence([3] * int(seconds / TOKEN_S)))
    plan, _ = made.schedule()
    assert [item.n_tokens for item in plan.items] == [n_first]


def test_a_long_prompt_is_done_although_short_ones_keep_coming() -> None:
    made = Scheduler(limits(n_batch=64, n_cells=16384, n_ctx=16384))
    long = sequence([3] * 600)
    made.add(long)
    for n_steps in range(1, 200):
        short = sequence([5 + n_steps] * 60)
        made.add(short)
        plan, _ = made.schedule()
        made.commit(plan.items, 0.3)
        made.remove(short)
        if long.n_pending == 1:
            break
    assert long.n_pending <= 1
