"""Long texts in pieces: the same tokens as at once, and no more of them than are needed."""

from collections.abc import Callable

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_worker.discovery import built_in_folder
from embed_worker.encoders.conversion_files import TOKENIZER
from embed_worker.encoders.long_texts import GROUP_CHARS, PIECE_CHARS, Enough, token_ids

Encode = Callable[[list[str]], list[list[int]]]
SENTENCES = ("the quick brown fox, jumps. ", "模型\t記憶體 ", "a\n\n  b ", "naïve [SEP] café 🙂 ")


@pytest.fixture(scope="module")
def encode() -> Encode:
    folder = built_in_folder()
    assert folder is not None
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts: list[str]) -> list[list[int]]:
        # More at once would be what the pieces are there to prevent.
        assert sum(map(len, texts)) < GROUP_CHARS + PIECE_CHARS
        return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return encode


@settings(max_examples=10, deadline=None)
@given(order=st.lists(st.sampled_from(SENTENCES), min_size=20, max_size=40))
def test_pieces_have_the_tokens_of_the_whole_text(encode: Encode, order: list[str]) -> None:
    text = "".join(order) * (3 * PIECE_CHARS // len("".join(order)))
    (whole,) = encode([text])
    assert token_ids(encode, [text]) == [whole]
    (begun,) = token_ids(encode, [text], Enough(300))
    assert begun[:300] == whole[:300]
    (ended,) = token_ids(encode, [text], Enough(300, from_end=True))
    assert ended[-300:] == whole[-300:]
    assert max(len(begun), len(ended)) < len(whole)


def test_texts_of_any_length_keep_their_order(encode: Encode) -> None:
    texts = ["a", "b " * PIECE_CHARS, "", "c " * (PIECE_CHARS // 2), *["d " * 9000] * 30]
    found = token_ids(encode, texts)
    assert [len(ids) for ids in found] == [1, PIECE_CHARS, 0, PIECE_CHARS // 2, *[9000] * 30]


def test_white_space_alone_is_read_to_its_end(encode: Encode) -> None:
    assert token_ids(encode, [" " * 5 * PIECE_CHARS + "end"], Enough(2)) == encode(["end"])


def test_a_text_without_white_space_is_cut_all_the_same(encode: Encode) -> None:
    assert len(token_ids(encode, ["x" * 5 * PIECE_CHARS])[0]) <= 5 + 1
    assert token_ids(encode, ["模" * 3 * PIECE_CHARS])[0] == encode(["模"])[0] * 3 * PIECE_CHARS
