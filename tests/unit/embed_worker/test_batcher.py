"""Packing texts into micro-batches."""

from hypothesis import given
from hypothesis import strategies as st

from embed_worker.engine.batcher import pack

LENGTHS = st.lists(st.integers(min_value=1, max_value=300), min_size=1, max_size=80)


@given(LENGTHS, st.integers(min_value=1, max_value=2_000), st.integers(min_value=1, max_value=40))
def test_a_batch_keeps_to_its_budget_and_holds_no_text_twice(
    lengths: list[int], max_tokens: int, max_rows: int
) -> None:
    chosen = pack(lengths, max_tokens=max_tokens, max_rows=max_rows)
    assert len(set(chosen)) == len(chosen) <= max_rows
    padded = max(lengths[index] for index in chosen) * len(chosen)
    assert padded <= max_tokens or len(chosen) == 1


@given(LENGTHS, st.integers(min_value=1, max_value=2_000))
def test_the_longest_waiting_text_is_always_in_the_batch(
    lengths: list[int], max_tokens: int
) -> None:
    assert pack(lengths, max_tokens=max_tokens, max_rows=8)[0] == 0


def test_texts_of_like_length_are_preferred() -> None:
    assert sorted(pack([10, 200, 11, 9, 180], max_tokens=40, max_rows=8)) == [0, 2, 3]


def test_a_text_longer_than_the_budget_runs_alone() -> None:
    assert pack([500, 5, 5], max_tokens=100, max_rows=8) == [0]


def test_all_texts_run_together_if_they_fit() -> None:
    assert sorted(pack([5, 8, 6], max_tokens=24, max_rows=3)) == [0, 1, 2]
