"""What steps cost is learnt from those that were measured."""

import pytest

from chat_worker.engine.runner import ScheduledTokens
from chat_worker.engine.step_costs import FIRST_TOKENS, GROWTH, StepCosts
from tests.unit.chat_worker.scheduling import sequence
from tests.unit.chat_worker.simulated_machines import MACHINES, Machine


def piece(n_tokens: int, depth: int = 0) -> ScheduledTokens:
    """The next token of an answer, or a part of a prompt."""
    made = sequence([3] * (depth + n_tokens + (n_tokens > 1)))
    made.slot, made.n_computed = 0, depth
    return ScheduledTokens.of(made, n_tokens)


def learn(costs: StepCosts, machine: Machine, *steps: tuple[int, int]) -> None:
    """Pieces of prompts, by their numbers of tokens and depths."""
    for n_tokens, depth in steps:
        costs.learn([piece(n_tokens, depth)], machine.seconds([(n_tokens, depth)], 0))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_few_steps_of_different_sizes_and_depths_show_the_cost_of_others(
    machine: Machine,
) -> None:
    costs = StepCosts(splits=machine.splits)
    learn(costs, machine, (64, 0), (256, 64), (300, 320), (128, 2000), (256, 3000), (300, 3256))
    for n_tokens, depth in [(100, 500), (512, 1500), (200, 3500)]:
        real_s = machine.seconds([(n_tokens, depth)], 0)
        assert costs.seconds(n_tokens, depth) == pytest.approx(real_s, rel=0.15)
        assert costs.tokens_in(real_s, depth) == pytest.approx(n_tokens, rel=0.2)


def test_nothing_is_known_at_first_and_then_pieces_grow_by_steps() -> None:
    costs = StepCosts(splits=True)
    assert costs.seconds(100, 0) == 0
    assert costs.tokens_in(1.0, 0) == FIRST_TOKENS
    costs.learn([piece(FIRST_TOKENS)], 0.001)
    assert costs.tokens_in(100.0, 0) == GROWTH * FIRST_TOKENS


def test_one_step_that_something_held_up_changes_little() -> None:
    machine = MACHINES[0]
    costs = StepCosts(splits=True)
    learn(costs, machine, *[(128 + 16 * n, 128 * n) for n in range(8)])
    before = costs.seconds(256, 500)
    costs.learn([piece(256, 500)], 10 * before)
    assert costs.seconds(256, 500) == pytest.approx(before, rel=0.25)


def test_a_machine_that_became_slower_is_found_to_be_slower() -> None:
    costs = StepCosts(splits=True)
    for n in range(20):
        costs.learn([piece(200, 200 * n)], 0.5)
    for n in range(12):
        costs.learn([piece(200, 200 * n)], 1.5)
    assert costs.seconds(200, 500) == pytest.approx(1.5, rel=0.2)


def test_the_cost_of_answers_is_that_of_the_number_nearest_to_it() -> None:
    costs = StepCosts(splits=True)
    assert costs.answers_s(3) == 0
    costs.learn([piece(1, 50)], 0.02)
    costs.learn([piece(1, 50)] * 4, 0.05)
    assert costs.answers_s(1) == 0.02
    assert costs.answers_s(6) == 0.05
    assert costs.answers_s(0) == 0


def test_what_few_answers_cost_more_than_their_share_of_a_larger_step_is_a_waste() -> None:
    costs = StepCosts(splits=True)
    assert costs.waste_s(1, 4) == 0
    for n_answers, seconds in [(1, 0.02), (2, 0.04), (8, 0.08)]:
        costs.learn([piece(1, 50)] * n_answers, seconds)
    assert costs.waste_s(2, 8) == pytest.approx(0.04 - 2 / 8 * 0.08)
    assert costs.waste_s(1, 2) == costs.waste_s(8, 8) == 0
    # What was not measured is reckoned from what was: a larger step costs more.
    assert 0 < costs.waste_s(8, 16) < 0.08 - 8 / 16 * 0.08


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_whether_mixing_pays_is_seen_in_mixed_steps(machine: Machine) -> None:
    costs = StepCosts(splits=False)
    learn(costs, machine, (64, 0), (256, 64), (300, 320), (256, 3000))
    costs.learn([piece(1, 50)] * 4, machine.seconds([], 4))
    for n in range(12):
        depth = 200 * n
        items = [piece(200, depth), *[piece(1, 50)] * 4]
        costs.learn(items, machine.seconds([(200, depth)], 4))
    assert costs.mixing_pays is not machine.splits


def test_where_the_backend_splits_steps_mixing_never_pays() -> None:
    costs = StepCosts(splits=True)
    costs.learn([piece(200, 0), piece(1, 50)], 0.1)
    assert not costs.mixing_pays
