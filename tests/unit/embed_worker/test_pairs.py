"""From a query and a document to one row, with a tokenizer small enough to read."""

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from common.errors import BackendLoadFailed, ContextLengthExceeded, InvalidRequest
from embed_worker.encoders.pairs import Pairs, encoder_of, frame_of

WORDS = ["[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e"]
CLS, SEP, A, B, C, D, E = range(1, 8)
BERT = "[CLS] $A [SEP] $B:1 [SEP]:1"
ROBERTA = "[CLS] $A [SEP] [SEP] $B [SEP]"


def pairs(template: str = BERT, max_tokens: int = 7) -> Pairs:
    tokenizer = tokenizers.Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        pair=template, special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return Pairs(encoder_of(tokenizer), frame_of(tokenizer), max_tokens=max_tokens)


def test_special_tokens_and_types_stand_as_the_tokenizer_puts_them() -> None:
    (row,) = pairs().rows(["a b"], ["c"]).rows
    assert (list(row.ids), row.n_first) == ([CLS, A, B, SEP, C, SEP], 4)


def test_a_tokenizer_may_give_all_tokens_one_type() -> None:
    (row,) = pairs(ROBERTA).rows(["a"], ["b"]).rows
    assert (list(row.ids), row.n_first) == ([CLS, A, SEP, SEP, B, SEP], 0)


@pytest.mark.parametrize("template", ["$A:1 $B:0", "$A:2 $B:2"])
def test_a_tokenizer_that_joins_texts_in_another_way_is_not_loaded(template: str) -> None:
    with pytest.raises(BackendLoadFailed):
        pairs(template)


def test_only_the_document_is_cut() -> None:
    end = pairs().rows(["a b"], ["c d e", "c"])
    start = pairs().rows(["a b"], ["c d e"], truncate="start")
    assert list(end.rows[0].ids) == [CLS, A, B, SEP, C, D, SEP]
    assert list(start.rows[0].ids) == [CLS, A, B, SEP, D, E, SEP]
    assert (end.truncated, start.truncated) == ([0], [0])


def test_no_more_of_a_document_is_kept_than_was_asked_for() -> None:
    found = pairs().rows(["a"], ["c d"], max_document_tokens=1, truncate="none")
    assert list(found.rows[0].ids) == [CLS, A, SEP, C, SEP]
    assert found.truncated == [0]


def test_each_document_can_have_its_own_query() -> None:
    rows = pairs().rows(["a", "b"], ["c", "d"]).rows
    assert [list(row.ids) for row in rows] == [[CLS, A, SEP, C, SEP], [CLS, B, SEP, D, SEP]]


def test_pairs_of_the_same_tokens_cut_elsewhere_are_different_rows() -> None:
    one, other = pairs("$A $B:1").rows(["a b", "a"], ["c", "b c"]).rows
    assert one.ids == other.ids
    assert one.key != other.key


@pytest.mark.parametrize("query", ["a b c d", "a b c d e e e e"])
def test_a_query_that_leaves_no_room_is_refused_with_both_numbers(query: str) -> None:
    n_tokens = len(query.split())
    with pytest.raises(ContextLengthExceeded, match=f"{n_tokens} tokens, the model takes 3"):
        pairs().rows([query], ["a"])


def test_a_document_that_may_not_be_cut_is_refused_with_both_numbers() -> None:
    with pytest.raises(ContextLengthExceeded, match="3 tokens, the model takes 2") as refused:
        pairs().rows(["a b"], ["c", "c d e"], truncate="none")
    assert refused.value.param == "documents[1]"


def test_an_empty_query_is_refused_and_an_empty_document_is_a_row() -> None:
    with pytest.raises(InvalidRequest) as refused:
        pairs().rows([""], ["a"])
    assert refused.value.param == "queries[0]"
    full, empty = pairs().rows(["a"], ["b", ""]).rows
    assert len(full.ids) == len(empty.ids) + 1
