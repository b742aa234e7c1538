"""Folded texts, and which characters of the text they come from."""

from unicodedata import normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.guard.folding import Originals, begins_anew, fold, without_ignorable

# Characters that combine, are folded to none or to several, or change places.
TRICKY = st.sampled_from(
    "aeﬁﬃＡａ①㍿İßſΐǰ각각가ㅏﾞｶﾡ\u0301\u0323\u0345\u200b\u200d\ufe0f\u00adé獵計，　😀\U000e0061"
)
TEXTS = st.text(st.one_of(TRICKY, st.characters(exclude_categories=["Cs"])), max_size=40)


@given(TEXTS)
@example("\u0345\u0301ΐ")
def test_the_quick_way_folds_as_the_standard_says(text: str) -> None:
    composed = normalize("NFKC", without_ignorable(text))
    assert fold(text) == normalize("NFKC", composed.casefold())


@given(TEXTS)
def test_a_text_folds_to_its_clusters_folds(text: str) -> None:
    cuts = [at for at in range(1, len(text)) if begins_anew(text, at)]
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join(map(fold, parts)) == fold(text)


@given(
    TEXTS,
    TEXTS,
    st.sampled_from(["secret", "ＳＥＣＲＥＴ", "se\u200bcret", "獵鷹\u00ad計畫", "ﬁﬃ"]),
    TEXTS,
)
def test_a_part_of_the_folded_text_is_found_in_the_text(
    pad: str, before: str, word: str, after: str
) -> None:
    text = pad * 60 + before + word + after
    begin = fold(text).find(fold(word))
    start, end = Originals(text).span(begin, begin + len(fold(word)))
    # Nothing of the word is left out, and what is cut out folds to the word with, at most, what
    # its first and last letter are folded together with.
    found = text[start:end]
    assert fold(word) in fold(found)
    assert len(fold(found)) <= len(fold(word)) + 18
    assert fold(text[:start]) + fold(found) + fold(text[end:]) == fold(text)


@pytest.mark.parametrize(
    "text", ["e" + "\u0301\u0323" * 20_000, "\u200b" * 400_000, "각" * 200_000]
)
def test_absurd_texts_are_folded_in_bounded_pieces(text: str) -> None:
    folded = fold(text)
    start, end = Originals(text).span(0, len(folded))
    assert 0 <= start <= end <= len(text)
