"""Prompts of about one length are computed together where that costs less."""

from pathlib import Path

import numpy as np
import pytest

from chat_worker.backends.llama_cpp.runner import LlamaRunner
from chat_worker.engine.prefill import TOGETHER
from chat_worker.engine.runner import ScheduledTokens, TruncateSlot
from chat_worker.engine.scheduler import Scheduler
from tests.unit.chat_worker.fake_runner import limits
from tests.unit.chat_worker.scheduling import learn_chunk, sequence
from tests.unit.chat_worker.test_runner_contract import (
    TOLERANCE,
    compute,
    compute_alone,
    llama_runner,
    prompt,
)
from tests.unit.chat_worker.test_runner_contract import sequence as greedy_sequence

CHUNK_TOKENS = 100


def scheduler(n_together: int = 512) -> Scheduler:
    """One that knows that `CHUNK_TOKENS` take as long as a step may, beside one that decodes."""
    bounds = limits(
        n_parallel=16,
        n_slots=16,
        n_batch=2048,
        n_cells=16384,
        n_ctx=1024,
        n_rows=76,
        shares_cells=False,
        n_together=n_together,
    )
    made = Scheduler(bounds)
    made.add(sequence([5]))  # one token is always pending: as if it were decoding
    learn_chunk(made, CHUNK_TOKENS)
    return made


def prompts(made: Scheduler, *lengths: int) -> list[int]:
    """The lengths of those prompts that the next step computes."""
    for n, length in enumerate(lengths):
        made.add(sequence([3 + n] * length))
    plan, _ = made.schedule()
    return sorted(item.n_tokens for item in plan.items if item.n_tokens > 1)


def n_before_an_answer(made: Scheduler) -> int:
    """Prompts that are computed until a step has an answer's next token in it."""
    n_prompts = 0
    while True:
        plan, _ = made.schedule()
        made.commit(plan.items, 0.4)
        n_prompts += sum(item.n_tokens > 1 for item in plan.items)
        for item in plan.items:
            if item.completes:
                item.sequence.tokens.append(7)
        if any(item.n_tokens == 1 for item in plan.items):
            return n_prompts


def whole(tokens: list[list[int]]) -> list[ScheduledTokens]:
    """Each prompt in a slot of its own, with the row after its last token."""
    return [
        ScheduledTokens(greedy_sequence(one), slot, 0, len(one), 1)
        for slot, one in enumerate(tokens)
    ]


def test_alike_prompts_are_computed_together_for_a_few_chunks_time() -> None:
    assert prompts(scheduler(), *[100] * 10) == [100] * int(TOGETHER)


def test_together_they_stay_within_what_the_backend_computes_at_once() -> None:
    assert prompts(scheduler(n_together=250), *[100] * 10) == [100] * 2


@pytest.mark.parametrize("others", [[150, 150], [60, 60], [500]])
def test_prompts_of_other_lengths_wait_for_their_turn(others: list[int]) -> None:
    assert prompts(scheduler(), 100, *others) == [100]


def test_of_more_than_there_is_time_for_those_nearest_in_length_are_taken() -> None:
    lengths = [100, 109, 91, 101, 102, 109, 99, 103]
    assert prompts(scheduler(), *lengths) == [99, 100, 101, 102, 103]


def test_parts_of_a_long_prompt_have_no_company() -> None:
    assert len(prompts(scheduler(), 500, 500, 500)) == 1


def test_where_it_costs_as_much_each_prompt_has_its_own_step() -> None:
    assert prompts(scheduler(n_together=0), *[100] * 10) == [100]


def test_answers_wait_for_whole_prompts_and_then_go_on_together() -> None:
    made = scheduler(n_together=0)
    assert [n_before_an_answer(made) for _ in range(2)] == [0, 0]
    for n in range(12):
        made.add(sequence([3 + n] * 100))
    # So many and one prompts had their turn before the next step with an answer in it.
    assert [n_before_an_answer(made) for _ in range(2)] == [int(TOGETHER) + 1] * 2


def test_answers_that_begin_together_wait_for_each_other() -> None:
    made = scheduler(n_together=0)
    for n in range(8):
        made.add(sequence([3 + n] * 100))
    assert n_before_an_answer(made) == 8
    # Then they are being read, and wait no longer than others.
    for n in range(7):
        made.add(sequence([203 + n] * 100))
    assert n_before_an_answer(made) == int(TOGETHER) + 1


def test_answers_do_not_wait_for_parts_of_a_long_prompt() -> None:
    made = scheduler()
    made.add(sequence([3] * 1000))
    plan, _ = made.schedule()
    assert [item.n_tokens for item in plan.items] == [1, CHUNK_TOKENS]


def test_answers_do_not_wait_where_the_model_is_too_slow_for_it() -> None:
    made = scheduler()
    learn_chunk(made, 1)
    made.add(sequence([3] * 20))
    plan, _ = made.schedule()
    assert [item.n_tokens for item in plan.items] == [1, 20]


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
