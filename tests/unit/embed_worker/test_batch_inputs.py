"""Rows of token ids as the arrays that converted models take."""

from array import array

import numpy as np
import pytest

from embed_worker.encoders.batch_inputs import BatchInputs, PaddedInputs, UnpaddedInputs
from embed_worker.engine.call import TOKEN_TYPE, Row

PAD = 9


def rows(*lengths: int, n_prompt: int = 0) -> list[Row]:
    return [Row(array(TOKEN_TYPE, range(1, n + 1)), n_prompt) for n in lengths]


def test_rows_end_to_end_can_be_taken_apart_and_put_together_again() -> None:
    given = rows(5, 1, 3)
    inputs = UnpaddedInputs(pad_id=PAD, first_position=2, pools_prompt=True)
    ids, positions, tokens, places, mask, pooled = inputs.arrays(given)
    assert ids.tolist() == [1, 2, 3, 4, 5, 1, 1, 2, 3, *[PAD] * 3]
    assert positions[:9].tolist() == [2, 3, 4, 5, 6, 2, 2, 3, 4]
    apart = np.where(mask, ids[tokens], 0)
    assert [row[row > 0].tolist() for row in apart] == [row.ids.tolist() for row in given]
    assert apart.reshape(-1)[places][:9].tolist() == ids[:9].tolist()
    assert pooled.tolist() == mask.tolist()


@pytest.mark.parametrize(
    "inputs",
    [
        PaddedInputs(pad_id=PAD, pools_prompt=False),
        UnpaddedInputs(pad_id=PAD, first_position=0, pools_prompt=False),
    ],
)
def test_a_prompt_is_left_out_of_what_is_pooled(inputs: BatchInputs) -> None:
    *_, mask, pooled = inputs.arrays([*rows(4, n_prompt=3), *rows(2)])
    assert (mask - pooled).tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]


def test_padding_follows_the_texts() -> None:
    inputs = PaddedInputs(pad_id=PAD, pools_prompt=True)
    ids, mask, _ = inputs.arrays(rows(2, 4))
    assert ids.tolist() == [[1, 2, PAD, PAD], [1, 2, 3, 4]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_what_is_kept_of_a_length_is_not_what_another_batch_gets() -> None:
    inputs = UnpaddedInputs(pad_id=PAD, first_position=0, pools_prompt=False)
    first = inputs.arrays(rows(6, n_prompt=2))
    assert inputs.arrays(rows(6, n_prompt=2))[1:] == first[1:], "it is kept"
    assert not np.array_equal(inputs.arrays(rows(6))[-1], first[-1])
