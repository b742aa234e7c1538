"""The scheduler on simulated machines, beside a queue in order on the same machine."""

import itertools
import random

import pytest

from tests.unit.chat_worker.simulated_machines import (
    EPYC,
    EPYC_WITH_AVX2,
    MACHINES,
    Machine,
    Turn,
    in_order,
    ours,
    quantile,
    slots,
)

MOST_WAIT_S = 2.5
# Where a piece of a prompt takes less than answers may wait, and so do several prompts.
FAST = [machine for machine in MACHINES if machine.name in ("EPYC", "Xeon with AMX", "GPU")]
on_every_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
on_fast_machines = pytest.mark.parametrize("machine", FAST, ids=lambda m: m.name)


def agents(
    n_agents: int, n_own: int, n_turns: int = 2, n_tokens: int = 48, n_shared: int = 0
) -> list[tuple[float, list[Turn]]]:
    """All begin at once; sizes in tokens."""
    draw = random.Random(20)

    def text(n_tokens: int) -> list[int]:
        return [draw.randrange(64) for _ in range(n_tokens)]

    shared = text(n_shared)
    return [
        (
            0.0,
            [
                Turn([*shared, 64 + number, *text(n_own)], n_tokens),
                *(Turn(text(130), n_tokens) for _ in range(n_turns - 1)),
            ],
        )
        for number in range(n_agents)
    ]


@on_every_machine
@pytest.mark.parametrize("n_agents", [4, 12])
def test_a_shared_system_prompt_is_computed_once_and_all_are_done_sooner(
    machine: Machine, n_agents: int
) -> None:
    work = agents(n_agents, n_own=130, n_shared=1300)
    mine, peer = ours(machine, work), in_order(machine, work)
    assert peer.wall_s / mine.wall_s > 1.02
    assert mine.first_s(0.95) < 0.9 * peer.first_s(0.95)
    if n_agents == 4 and machine.name != "GPU":
        assert peer.wall_s / mine.wall_s > 1.3


@on_fast_machines
@pytest.mark.parametrize(("n_agents", "n_tokens"), [(4, 48), (12, 48), (12, 256)])
def test_own_prompts_are_done_as_soon_as_without_any_limit_on_waits(
    machine: Machine, n_agents: int, n_tokens: int
) -> None:
    work = agents(n_agents, n_own=660, n_tokens=n_tokens)
    mine, peer = ours(machine, work), in_order(machine, work)
    assert peer.wall_s / mine.wall_s > 0.95
    assert mine.first_s(0.95) < 1.1 * peer.first_s(0.95)
    assert mine.gap_s(0.95) < 2 * peer.gap_s(0.95)


@on_every_machine
@pytest.mark.parametrize(("n_agents", "n_own"), [(4, 660), (4, 3200), (12, 660)])
def test_the_limit_on_waits_costs_little_where_steps_are_slow(
    machine: Machine, n_agents: int, n_own: int
) -> None:
    work = agents(n_agents, n_own)
    mine, peer = ours(machine, work), in_order(machine, work)
    assert peer.wall_s / mine.wall_s > 0.75
    assert mine.first_s(0.95) < 1.6 * peer.first_s(0.95)


@pytest.mark.parametrize("machine", [EPYC, EPYC_WITH_AVX2], ids=lambda m: m.name)
@pytest.mark.parametrize("n_tokens", [64, 256])
def test_many_answers_with_long_prompts_are_decoded_together_although_none_waits_long(
    machine: Machine, n_tokens: int
) -> None:
    work = agents(16, n_own=910, n_turns=1, n_tokens=n_tokens)
    bounds = slots(n_parallel=16, n_rows=76, splits=machine.splits)
    mine, peer = ours(machine, work, bounds), in_order(machine, work, n_slots=16)
    assert peer.wall_s / mine.wall_s > 0.93
    assert mine.first_s(0.95) < 1.2 * peer.first_s(0.95)
    worst_s = max(max(answer.gaps_s[1:]) for answer in mine.answers)
    assert worst_s < 1.05 * MOST_WAIT_S + machine.answers_s[-1]


@on_every_machine
def test_answers_that_are_read_never_wait_longer_than_the_limit(machine: Machine) -> None:
    mine = ours(machine, agents(12, 660, n_turns=3, n_tokens=100), answer_wait_s=MOST_WAIT_S)
    worst_s = max(max(answer.gaps_s[1:]) for answer in mine.answers)
    # The next tokens themselves take a step, and a prediction may be a little wrong.
    assert worst_s < 1.05 * MOST_WAIT_S + machine.answers_s[-1]


@on_every_machine
def test_a_chat_goes_on_beside_a_long_prompt_which_is_nearly_as_fast_as_alone(
    machine: Machine,
) -> None:
    prompt = Turn([6] * 3000, 1)
    alone_s = ours(machine, [(0.0, [prompt])]).wall_s
    came_s = machine.seconds([(80, 0)], 0) + 10 * machine.answers_s[0]
    mine = ours(machine, [(0.0, [Turn([5] * 80, 400)]), (came_s, [prompt])])
    (beside,) = (answer for answer in mine.answers if len(answer.times_s) == 1)
    (chat,) = (answer for answer in mine.answers if len(answer.times_s) > 1)
    assert alone_s / beside.first_s > 0.7
    gaps = [
        after - before
        for before, after in itertools.pairwise(chat.times_s)
        if after > beside.came_s and before < beside.times_s[0]
    ]
    assert quantile(gaps, 0.95) < (0.5 if machine.token_s < 0.01 else MOST_WAIT_S * 1.2)


@on_every_machine
def test_a_long_prompt_does_not_starve_among_short_ones(machine: Machine) -> None:
    """Short prompts take three quarters of the machine."""
    every_s = machine.seconds([(80, 0)], 0) / 0.75
    short = [(n * every_s, [Turn([n % 61, *[5] * 79], 2)]) for n in range(300)]
    long_s = machine.seconds([(2000, 0)], 0)
    mine = ours(machine, [(0.0, [Turn([6] * 2000, 2)]), *short])
    (long,) = (answer for answer in mine.answers if answer.n_prompt == 2000)
    assert long.first_s < 8 * long_s


def test_a_longer_limit_is_for_throughput_and_a_shorter_one_for_even_text() -> None:
    machine = next(machine for machine in MACHINES if machine.name == "AVX2")
    work = agents(12, 660, n_tokens=100)
    long, short = (ours(machine, work, answer_wait_s=seconds) for seconds in (20.0, 0.5))
    assert long.wall_s < short.wall_s
    assert short.gap_s(1.0) < long.gap_s(1.0) / 2
