"""How much of which prompts a step computes, beside what decodes."""

import pytest

from chat_worker.engine.scheduler import Scheduler
from tests.unit.chat_worker.fake_runner import limits
from tests.unit.chat_worker.scheduling import Driver, learn_chunk, sequence


def test_every_decoding_sequence_gets_a_token_in_every_step_beside_parts_of_a_prompt() -> None:
    driver = Driver()
    short = sequence([1], n_new=50)
    long = sequence(list(range(2, 60)) * 3)
    driver.scheduler.add(short)
    driver.step()
    driver.scheduler.add(long)
    n_steps = 0
    while long.n_pending > driver.runner.limits.n_batch:
        before = short.n_generated
        driver.step()
        assert short.n_generated == before + 1
        n_steps += 1
    assert n_steps > 1


def test_a_short_prompt_does_not_wait_for_a_long_one_which_goes_on_beside_it() -> None:
    driver = Driver()
    long, short = sequence([3] * 250), sequence([5] * 10)
    driver.scheduler.add(long)
    driver.scheduler.add(short)
    driver.step()
    assert short.n_generated == 1
    driver.step()
    assert short.n_generated == 2
    assert 0 < long.n_computed < 250


@pytest.mark.parametrize(("beside", "target_s"), [(False, 0.8), (True, 0.4)])
def test_chunks_grow_until_a_step_takes_about_its_target_and_shrink_when_it_takes_longer(
    beside: bool, target_s: float
) -> None:
    scheduler = Scheduler(limits(n_batch=512, n_cells=16384, n_ctx=16384))
    long = sequence([3] * 10_000)
    scheduler.add(long)
    if beside:
        # One token is always pending: as if it were decoding.
        scheduler.add(sequence([5]))
    sizes: list[int] = []
    for seconds_per_token in [0.0005] * 8 + [0.01] * 8:
        plan, _ = scheduler.schedule()
        (n_tokens,) = (item.n_tokens for item in plan.items if item.sequence is long)
        sizes.append(n_tokens)
        scheduler.commit(
            [i for i in plan.items if i.sequence is long], n_tokens * seconds_per_token
        )
    assert max(sizes) >= 511
    assert sizes[-1] * 0.01 == pytest.approx(target_s, rel=0.3)


@pytest.mark.parametrize(("n_prompt", "n_first"), [(100, 100), (180, 60)])
def test_a_prompt_that_nearly_fits_is_computed_whole(n_prompt: int, n_first: int) -> None:
    scheduler = Scheduler(limits(n_batch=512, n_cells=16384, n_ctx=16384))
    scheduler.add(sequence([5]))  # as if it were decoding
    learn_chunk(scheduler, 60)
    prompt = sequence([3] * n_prompt)
    scheduler.add(prompt)
    plan, _ = scheduler.schedule()
    (first,) = (item.n_tokens for item in plan.items if item.sequence is prompt)
    assert first == n_first


def test_a_long_prompt_is_done_although_short_ones_keep_coming() -> None:
    scheduler = Scheduler(limits(n_batch=64, n_cells=16384, n_ctx=16384))
    long = sequence([3] * 600)
    scheduler.add(long)
    for n_steps in range(1, 200):
        short = sequence([5 + n_steps] * 60)
        scheduler.add(short)
        plan, _ = scheduler.schedule()
        scheduler.commit(plan.items, 0.3)
        scheduler.remove(short)
        if long.n_pending == 1:
            break
    assert long.n_pending <= 1
