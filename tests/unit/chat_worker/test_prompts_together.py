"""Prompts of about one length are computed together where that costs less."""

from pathlib import Path

import numpy as np
import pytest

from chat_worker.backends.llama_cpp.runner import LlamaRunner
from chat_worker.engine.prefill import PIECE_S, WHOLE
from chat_worker.engine.runner import ScheduledTokens, TruncateSlot
from chat_worker.engine.scheduler import Scheduler
from tests.unit.chat_worker.fake_runner import limits
from tests.unit.chat_worker.scheduling import learn_speed, sequence
from tests.unit.chat_worker.test_runner_contract import (
    TOLERANCE,
    compute,
    compute_alone,
    llama_runner,
    prompt,
)
from tests.unit.chat_worker.test_runner_contract import sequence as greedy_sequence

# Of the time for prompts that are computed together, a prompt of 100 tokens takes a third.
N_TOGETHER = 3
TOKEN_S = PIECE_S * WHOLE / N_TOGETHER / 101


def scheduler(n_together: int = 512) -> Scheduler:
    """One that knows what a token costs, beside an answer that has just begun."""
    bounds = limits(
        n_parallel=16,
        n_slots=16,
        n_batch=2048,
        n_cells=16384,
        n_ctx=1024,
        n_rows=76,
        shares_cells=False,
        splits=True,
        n_together=n_together,
    )
    made = Scheduler(bounds)
    learn_speed(made, TOKEN_S)
    made.add(sequence([5]))  # one token is always pending: as if it were decoding
    return made


def prompts(made: Scheduler, *lengths: int) -> list[int]:
    """The lengths of those prompts that the next step computes."""
    for n, length in enumerate(lengths):
        made.add(sequence([3 + n] * length))
    plan, _ = made.schedule()
    return sorted(item.n_tokens for item in plan.items if item.n_tokens > 1)


def whole(tokens: list[list[int]]) -> list[ScheduledTokens]:
    """Each prompt in a slot of its own, with the row after its last token."""
    return [
        ScheduledTokens(greedy_sequence(one), slot, 0, len(one), 1)
        for slot, one in enumerate(tokens)
    ]


def test_alike_prompts_are_computed_together_for_a_few_chunks_time() -> None:
    assert prompts(scheduler(), *[100] * 10) == [100] * N_TOGETHER


def test_together_they_stay_within_what_the_backend_computes_at_once() -> None:
    assert prompts(scheduler(n_together=250), *[100] * 10) == [100] * 2


@pytest.mark.parametrize("others", [[150, 150], [60, 60], [500]])
def test_prompts_of_other_lengths_wait_for_their_turn(others: list[int]) -> None:
    assert prompts(scheduler(), 100, *others) == [100]


def test_of_more_than_there_is_time_for_those_nearest_in_length_are_taken() -> None:
    lengths = [100, 109, 91, 101, 102, 109, 99, 103]
    assert prompts(scheduler(), *lengths) == [99, 100, 101]


def test_parts_of_a_long_prompt_have_no_company() -> None:
    assert len(prompts(scheduler(), 900, 900, 900)) == 1


def test_where_it_costs_as_much_prompts_fill_a_piece_and_no_more() -> None:
    n_tokens = sum(prompts(scheduler(n_together=0), *[50] * 10))
    assert 50 < n_tokens <= PIECE_S / TOKEN_S


@pytest.mark.parametrize(
    ("lengths", "n_computed"), [([93], 93), ([93, 91], 2 * 94), ([97, 95, 97], 3 * 100)]
)
def test_no_tokens_of_prompts_together_are_left_over_for_llama_cpps_slow_kernel(
    tiny_gguf: Path, lengths: list[int], n_computed: int
) -> None:
    runner = llama_runner(tiny_gguf, 8 * 512)
    assert isinstance(runner, LlamaRunner)
    tokens = [prompt(seed, length) for seed, length in enumerate(lengths)]
    runner.run(whole(tokens))
    assert runner.n_last_computed == n_computed
    assert [runner.length(slot) for slot in range(len(lengths))] == lengths
    runner.close()


def test_llama_cpp_gives_alike_prompts_the_logits_that_each_has_alone(tiny_gguf: Path) -> None:
    runner = llama_runner(tiny_gguf, 8 * 512)
    assert runner.limits.n_together
    tokens = [prompt(seed, length) for seed, length in enumerate((100, 91, 97, 70, 100))]
    alone = compute_alone(runner, tokens)
    together = [row.copy() for row in runner.run(whole(tokens))]
    for expected, row in zip(alone, together, strict=True):
        assert np.abs(row - expected).max() < TOLERANCE
    # What they were padded with is gone, and they go on as if it had never been.
    assert [runner.length(slot) for slot in range(5)] == [100, 91, 97, 70, 100]
    for slot, (one, row) in enumerate(zip(tokens, together, strict=True)):
        longer = [*one, int(row.argmax())]
        compute(runner, one, 7)
        expected = compute(runner, longer, 7, len(one))
        runner.apply(TruncateSlot(7, 0))
        assert np.abs(compute(runner, longer, slot, len(one)) - expected).max() < TOLERANCE
    runner.close()


def test_a_prompt_at_the_end_of_its_slot_is_not_padded_beyond_it(tiny_gguf: Path) -> None:
    runner = llama_runner(tiny_gguf, 8 * 512)
    late, other = prompt(1, 512), prompt(2, 100)
    expected = [compute(runner, other, 0)]
    compute(runner, late[:416], 1)
    expected.append(compute(runner, late, 1, 416))
    runner.apply(TruncateSlot(0, 0))
    runner.apply(TruncateSlot(1, 416))
    items = [
        ScheduledTokens(greedy_sequence(other), 0, 0, 100, 1),
        ScheduledTokens(greedy_sequence(late), 1, 416, 96, 1),
    ]
    for row, own in zip(runner.run(items), expected, strict=True):
        assert np.abs(row - own).max() < TOLERANCE
    assert runner.length(1) == 512
    runner.close()
