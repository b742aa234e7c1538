"""The scheduler's and slots' policy, driven step by step without threads or a model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_worker.engine.runner import ForkSlot, TruncateSlot
from chat_worker.engine.sequence import Sequence
from chat_worker.engine.slots import IntegrityError, Slots, common_prefix
from tests.unit.chat_worker.fake_runner import continuation, limits
from tests.unit.chat_worker.scheduling import Driver, output, sequence


def test_the_next_turn_computes_only_what_is_new() -> None:
    driver = Driver()
    first = sequence(list(range(40)))
    driver.run(first)
    second = sequence([*first.tokens, 1, 2, 3])
    n_before = driver.runner.n_computed
    driver.run(second)
    # The last token of the first turn was sampled but never computed.
    assert driver.runner.n_computed - n_before == 1 + 3 + 3
    assert output(second) == continuation([*first.tokens, 1, 2, 3], 4)


def test_requests_with_a_common_prefix_compute_it_once_even_when_they_come_together() -> None:
    driver = Driver()
    shared = list(range(32)) * 4
    several = [sequence([*shared, 50 + i], n_new=1) for i in range(4)]
    driver.run(*several)
    assert driver.runner.n_computed == len(shared) + 4
    for one in several:
        assert output(one) == continuation(one.tokens[: one.n_prompt], 1)


def test_choices_of_one_request_prefill_their_prompt_once() -> None:
    driver = Driver()
    several = [sequence(list(range(60)), n_new=3) for _ in range(4)]
    driver.run(*several)
    # The leader's 60, one token of the prompt for each other, and the decoded ones.
    assert driver.runner.n_computed == 60 + 3 + 4 * 2


def test_what_must_go_for_a_prompt_goes_before_its_first_piece() -> None:
    """In a pool, the pieces would attend past the cells of what goes later."""
    driver = Driver(limits(n_cells=256, n_ctx=256, n_batch=32))
    old = sequence([3] * 200)
    driver.run(old)
    driver.scheduler.add(sequence([5] * 150))
    plan, _ = driver.scheduler.schedule()
    assert TruncateSlot(0, 0) in plan.ops
    assert [item.n_tokens for item in plan.items] == [32]


def test_another_salt_shares_nothing() -> None:
    driver = Driver()
    driver.run(sequence(list(range(40)), salt="a"))
    n_before = driver.runner.n_computed
    driver.run(sequence(list(range(40)), n_new=1, salt="b"))
    assert driver.runner.n_computed - n_before == 40


def test_the_newest_is_preempted_when_cells_run_out_and_still_gives_the_same_tokens() -> None:
    driver = Driver(limits(n_cells=128, n_ctx=128, n_slots=4))
    several = [sequence([i] * 20, n_new=60) for i in range(3)]
    prompts = [list(one.tokens) for one in several]
    for one in several:
        driver.scheduler.add(one)
    was_preempted = False
    for _ in range(2000):
        driver.step()
        was_preempted |= any(one.n_generated for one in driver.scheduler.waiting)
        if driver.scheduler.is_idle:
            break
    assert was_preempted
    assert [output(one) for one in several] == [continuation(p, 60) for p in prompts]
    driver.scheduler.slots.check_integrity(driver.runner.length)


def test_a_long_request_is_not_overtaken_for_ever_by_short_ones() -> None:
    driver = Driver(limits(n_cells=256, n_ctx=256))
    driver.scheduler.add(sequence([9] * 100, n_new=100))
    driver.step()
    long = sequence([8] * 200, n_new=4)
    driver.scheduler.add(long)
    for i in range(300):
        driver.scheduler.add(sequence([i % 7] * 5, n_new=2))
        driver.step()
        if long.n_generated == 4:
            break
    assert long.n_generated == 4


def test_a_cancelled_sequence_frees_its_slot_in_any_state() -> None:
    driver = Driver()
    several = [sequence([i] * 200, n_new=8) for i in range(6)]
    for one in several:
        driver.scheduler.add(one)
    driver.step()
    for one in several:
        driver.scheduler.remove(one)
    assert driver.scheduler.is_idle
    driver.scheduler.slots.check_integrity(driver.runner.length)


def test_a_model_whose_state_cannot_be_cut_only_continues_or_starts_again() -> None:
    driver = Driver(limits(can_truncate=False))
    first = sequence(list(range(40)))
    driver.run(first)
    driver.run(sequence([*first.tokens, 1, 2]))
    driver.run(sequence([0, 1, 2, 60]))
    driver.run(*(sequence(list(range(50))) for _ in range(3)))


def test_integrity_is_broken_by_a_backend_that_lost_tokens() -> None:
    driver = Driver()
    driver.run(sequence([1, 2, 3]))
    driver.runner.held[0].pop()
    with pytest.raises(IntegrityError):
        driver.scheduler.slots.check_integrity(driver.runner.length)


def test_forked_cells_are_counted_once_and_freed_by_the_last() -> None:
    slots = Slots(limits(n_cells=64, n_slots=3))
    first = slots.take(list(range(50)), "")
    slots.extend(first.slot, list(range(50)))
    second = slots.take([*range(49), 60, 61], "")
    assert second.n_reused == 49
    assert isinstance(second.ops[-1], ForkSlot)
    assert slots.n_free_cells == 14
    slots.drop(first.slot)
    assert slots.n_free_cells == 15
    slots.drop(second.slot)
    assert slots.n_free_cells == 64


def test_where_slots_have_cells_of_their_own_a_fork_is_a_copy_with_room_of_its_own() -> None:
    slots = Slots(limits(n_cells=128, n_ctx=64, n_slots=2, shares_cells=False))
    first = slots.take(list(range(60)), "")
    slots.extend(first.slot, list(range(60)))
    second = slots.take([*range(50), 70], "")
    assert second.n_reused == 50
    assert slots.n_free_cells == 128 - 60 - 50
    slots.extend(second.slot, [70] * 14)
    assert slots.n_free_cells == 4
    slots.drop(first.slot)
    assert slots.n_free_cells == 64


def test_sequences_run_in_neighbouring_slots_where_that_is_faster() -> None:
    slots = Slots(limits(n_cells=8 * 64, n_ctx=64, n_slots=8, shares_cells=False))
    taken = [slots.take([i] * 5, "") for i in range(6)]
    for i, one in enumerate(taken):
        slots.extend(one.slot, [i] * 5)
    busy = [one.slot for one in taken]
    assert max(busy) - min(busy) == 5
    # One in the middle ends: the gap is filled, though other slots are empty.
    slots.release(busy[2])
    assert slots.take([9] * 5, "").slot == busy[2]


def test_what_a_slot_among_running_ones_held_is_moved_before_another_takes_it() -> None:
    slots = Slots(limits(n_cells=8 * 64, n_ctx=64, n_slots=8, shares_cells=False))
    history = list(range(40))
    for tokens in ([50] * 40, history, [51] * 40):
        slots.extend(slots.take(tokens, "").slot, tokens)
    slots.release(1)
    assert slots.take([52] * 40, "").slot == 1
    slots.extend(1, [52] * 40)
    assert slots.take([*history, 60], "").n_reused == 40


def test_a_conversation_goes_on_beside_the_running_ones_and_its_slot_stays_as_it_was() -> None:
    slots = Slots(limits(n_cells=8 * 64, n_ctx=64, n_slots=8, shares_cells=False))
    history = list(range(40))
    for i in range(4):
        tokens = history if i == 3 else [50 + i] * 5
        slots.extend(slots.take(tokens, "").slot, tokens)
    for slot in range(4):
        slots.release(slot)
    running = slots.take([60] * 5, "")
    slots.extend(running.slot, [60] * 5)
    went_on = slots.take([*history, 41], "")
    assert went_on.n_reused == 40
    assert abs(went_on.slot - running.slot) == 1


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=12))
def test_common_prefix_is_the_longest(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


REQUEST = st.tuples(
    st.integers(0, 3),  # which of a few shared beginnings
    st.integers(0, 60),  # how much of it
    st.lists(st.integers(0, 63), min_size=1, max_size=20),
    st.integers(1, 30),  # tokens to generate
    st.integers(0, 6),  # steps before the next request comes
    st.integers(0, 9),  # 0: cancelled after those steps
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(REQUEST, min_size=1, max_size=14),
    st.booleans(),
    st.sampled_from([(128, True), (256, True), (1024, True), (6 * 128, False)]),
)
def test_whatever_comes_each_request_gets_its_own_tokens(
    requests: list[tuple[int, int, list[int], int, int, int]],
    can_truncate: bool,
    cells: tuple[int, bool],
) -> None:
    n_cells, shares = cells
    driver = Driver(
        limits(
            n_cells=n_cells,
            n_ctx=128,
            can_truncate=can_truncate,
            n_slots=6,
            shares_cells=shares or not can_truncate,
        )
    )
    kept: list[tuple[Sequence, list[int]]] = []
    for beginning, n_shared, own, n_new, n_steps, fate in requests:
        prompt = [(beginning * 5 + i) % 64 for i in range(n_shared)] + own
        one = sequence(prompt, n_new=n_new)
        driver.scheduler.add(one)
        for _ in range(n_steps):
            driver.step()
        if fate == 0:
            driver.scheduler.remove(one)
        else:
            kept.append((one, continuation(prompt, n_new)))
    driver.run()
    assert [output(one) for one, _ in kept] == [expected for _, expected in kept]
