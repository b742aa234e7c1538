"""From texts to rows, with a tokenizer small enough to read."""

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from common.errors import BackendLoadFailed, ContextLengthExceeded, InvalidRequest
from embed_worker.encoders.prompts import Prompts
from embed_worker.encoders.tokens import Tokenization

WORDS = ["[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e", "query:"]
CLS, SEP, A, B, C, D, E, QUERY = range(1, 9)


def tokenizer(template: str = "[CLS] $A [SEP]") -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    made.add_special_tokens(["[CLS]", "[SEP]"])
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return made


def tokens(max_tokens: int = 5, **kwargs: str) -> Tokenization:
    return Tokenization(tokenizer(**kwargs), max_tokens=max_tokens, n_embedded=len(WORDS))


def test_special_tokens_stand_around_the_text() -> None:
    found = tokens().rows(["a b"])
    assert [list(row.ids) for row in found.rows] == [[CLS, A, B, SEP]]
    assert found.truncated == []


def test_a_tokenizer_may_have_no_special_tokens() -> None:
    (row,) = tokens(template="$A").rows(["a b"]).rows
    assert list(row.ids) == [A, B]


def test_a_tokenizer_that_leaves_out_the_text_is_not_loaded() -> None:
    with pytest.raises(BackendLoadFailed):
        tokens(template="[CLS] [SEP]")


def test_the_end_or_the_start_is_cut_within_the_special_tokens() -> None:
    end = tokens().rows(["a", "a b c d e"], truncate="end")
    start = tokens().rows(["a b c d e"], truncate="start")
    assert list(end.rows[1].ids) == [CLS, A, B, C, SEP]
    assert list(start.rows[0].ids) == [CLS, C, D, E, SEP]
    assert (end.truncated, start.truncated) == ([1], [0])


def test_a_prompt_stays_when_the_start_of_the_text_is_cut() -> None:
    (row,) = tokens().rows(["a b c d e"], prompt="query: ", truncate="start").rows
    assert list(row.ids) == [CLS, QUERY, D, E, SEP]
    assert row.n_prompt == 2


def test_a_prompt_goes_before_token_ids_too() -> None:
    (row,) = tokens().rows([[A, B]], prompt="query: ").rows
    assert list(row.ids) == [CLS, QUERY, A, B, SEP]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([CLS, A, SEP], [CLS, A, SEP]),
        ([CLS, A], [CLS, CLS, A, SEP]),
        ([CLS], [CLS, CLS, SEP]),
        ([CLS, SEP], [CLS, SEP]),
    ],
)
def test_special_tokens_around_token_ids_are_not_doubled(
    given: list[int], expected: list[int]
) -> None:
    (row,) = tokens().rows([given]).rows
    assert list(row.ids) == expected


def test_rows_can_be_cut_shorter_than_the_model_takes() -> None:
    found = tokens().rows(["a b c", "a"], max_tokens=4)
    assert [list(row.ids) for row in found.rows] == [[CLS, A, B, SEP], [CLS, A, SEP]]
    assert found.truncated == [0]


@pytest.mark.parametrize("most", [0, 2, 6])
def test_rows_are_cut_to_no_length_that_cannot_be(most: int) -> None:
    with pytest.raises(InvalidRequest, match="3 to 5") as refused:
        tokens().rows(["a"], max_tokens=most)
    assert refused.value.param == "max_tokens"


def test_a_prompt_that_fills_the_model_leaves_no_more_than_it_takes() -> None:
    (row,) = tokens(max_tokens=3).rows(["a b"], prompt="query: ", truncate="start").rows
    assert list(row.ids) == [CLS, QUERY, SEP]


def test_ids_that_the_model_has_no_row_for_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        Tokenization(tokenizer(), max_tokens=5, n_embedded=4).rows([[B]])
    with pytest.raises(InvalidRequest):
        tokens().rows([[-1]])


def test_a_text_of_no_tokens_at_all_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        tokens(template="$A").rows(["a", " "])
    assert refused.value.param == "input[1]"


def test_a_query_and_a_document_have_their_own_prompts() -> None:
    prompts = Prompts({"query": "q: ", "passage": "p: "})
    assert (prompts.query(), prompts.document(), prompts.text("")) == ("q: ", "p: ", "")


def test_the_default_prompt_is_used_where_no_other_is_named() -> None:
    prompts = Prompts({"search": "s: "}, "search")
    assert (prompts.text(""), prompts.query(), prompts.document()) == ("s: ", "s: ", "s: ")


@pytest.mark.parametrize(
    ("use", "prompt"),
    [("query", "s: "), ("document", "p: "), ("clustering", "c: "), ("classification", None)],
)
def test_a_use_has_the_prompt_that_the_models_authors_made_for_it(
    use: str, prompt: str | None
) -> None:
    prompts = Prompts({"search_query": "s: ", "passage": "p: ", "clustering": "c: "})
    assert prompts.made_for(use) == prompt


def test_an_empty_prompt_is_one_and_documents_never_get_that_of_queries() -> None:
    prompts = Prompts({"query": "q: ", "document": ""}, "query")
    assert (prompts.text("document"), prompts.document(), prompts.text("")) == ("", "", "q: ")
    assert Prompts({"query": "q: "}, "query").document() == ""
    assert Prompts({"document": ""}, "document").text("") == ""


def test_an_empty_prompt_of_a_use_gives_way_to_another_of_it() -> None:
    prompts = Prompts({"query": "", "document": "", "search_query": "s: "})
    assert (prompts.query(), prompts.document()) == ("s: ", "")


@pytest.mark.parametrize("own", ["Clustering", "clustering", "CLUSTERING"])
def test_names_of_prompts_are_found_however_they_are_written(own: str) -> None:
    prompts = Prompts({own: "c: ", "Retrieval-query": "q: ", "retrieval.passage": "p: "})
    assert (prompts.made_for("clustering"), prompts.text("clustering")) == ("c: ", "c: ")
    assert (prompts.query(), prompts.document()) == ("q: ", "p: ")


def test_a_special_token_in_the_models_prompt_is_one_and_in_a_text_is_none() -> None:
    own = tokenizer()
    mark = len(WORDS)
    own.add_special_tokens(["[Q]"])
    made = Tokenization(own, max_tokens=20, n_embedded=mark + 1)
    plain, odd, long = made.rows(["a b", "[Q] a", "a " * 20_000], prompt="[Q] query: ").rows
    assert list(plain.ids) == [CLS, mark, QUERY, A, B, SEP]
    assert list(odd.ids) == [CLS, mark, QUERY, 0, A, SEP], "typed, it is an unknown word"
    assert list(long.ids) == [CLS, mark, QUERY, *[A] * 16, SEP]
    assert {row.n_prompt for row in (plain, odd, long)} == {3}
    (ids,) = made.rows([[A]], prompt="[Q] query: ").rows
    assert list(ids.ids) == [CLS, mark, QUERY, A, SEP]


def test_no_more_of_a_text_is_kept_than_was_asked_for() -> None:
    found = tokens().rows(["a b c d e", "a"], prompt="query: ", max_text_tokens=1)
    assert [list(row.ids) for row in found.rows] == [[CLS, QUERY, A, SEP]] * 2
    assert found.truncated == [0]


def test_an_unknown_prompt_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest) as refused:
        Prompts({"query": "q: "}).text("nope")
    assert "query" in refused.value.suggestions[0]


def test_of_a_very_long_text_the_wanted_end_is_kept_and_the_count_is_a_bound() -> None:
    text = "a b c " * 20_000 + "d e"
    cut = {way: tokens().rows([text], prompt="query: ", truncate=way) for way in ("end", "start")}
    assert list(cut["end"].rows[0].ids) == [CLS, QUERY, A, B, SEP]
    assert list(cut["start"].rows[0].ids) == [CLS, QUERY, D, E, SEP]
    assert [found.truncated for found in cut.values()] == [[0], [0]]
    (first,) = tokens().rows([text], truncate="start", max_text_tokens=2).rows
    assert list(first.ids) == [CLS, A, B, SEP]
    with pytest.raises(ContextLengthExceeded, match=r"has at least [0-9]+ tokens"):
        tokens().rows([text], truncate="none")
