"""Texts that come in pieces: nothing that a rule wants leaves before it is found."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.guard.held_text import HeldText
from gateway.guard.matcher import CompiledRule, Matcher
from gateway.guard.policy import Action, Rule

HOLD_BACK = 16
SECRETS = [
    "Secret Word",
    "ＳＥＣＲＥＴ\nword",
    "se\u200b\u200bcret \u00adword",
    "獵鷹計畫",
    "獵鷹\u200d計畫",
]
PIECES = st.lists(
    st.one_of(
        st.sampled_from(SECRETS), st.sampled_from(["a", "secret", "word", " ", "é", "獵", "鷹"])
    ),
    max_size=30,
)


def matcher(action: Action) -> Matcher:
    rule = Rule(
        "it", action, words=("secret word", "獵鷹計畫"), patterns=(r"\d{4,8}",), replacement="*"
    )
    return Matcher([CompiledRule(rule)])


def in_pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(places)]


@given(PIECES, st.lists(st.integers(0, 10_000), max_size=60))
def test_any_pieces_are_redacted_as_the_whole_is(words: list[str], cuts: list[int]) -> None:
    text = "".join(words)
    found = matcher("redact")
    held, whole = HeldText(found, HOLD_BACK), HeldText(found, HOLD_BACK)
    left = [held.push(piece).text for piece in in_pieces(text, cuts)]
    assert "".join(left) + held.end().text == whole.push(text).text + whole.end().text


@given(PIECES, st.lists(st.integers(0, 10_000), max_size=60))
def test_nothing_of_a_refused_word_leaves(words: list[str], cuts: list[int]) -> None:
    text = "".join(words)
    found = matcher("block")
    matches = found.find(text)
    held, left, is_blocked = HeldText(found, HOLD_BACK), "", False
    for piece in in_pieces(text, cuts):
        released = held.push(piece)
        left += released.text
        if is_blocked := released.blocked is not None:
            break
    else:
        released = held.end()
        left += released.text
        is_blocked = released.blocked is not None
    assert is_blocked == bool(matches)
    assert text.startswith(left)
    if matches:
        assert len(left) <= matches[0].start


def test_what_is_held_is_bounded_though_nobody_sees_it() -> None:
    held = HeldText(matcher("block"), HOLD_BACK)
    held.push("secret")
    for _ in range(2000):
        held.push("\u200b" * 50)
    assert len(vars(held)["_text"]) < 100 * HOLD_BACK
    assert held.push(" word.").blocked is not None


def test_a_word_that_goes_on_is_another_word() -> None:
    held = HeldText(matcher("block"), HOLD_BACK)
    said = [held.push(piece) for piece in ("a secret word", "s and more that is harmless, too")]
    assert [one.blocked for one in (*said, held.end())] == [None, None, None]


def test_a_number_that_goes_on_is_redacted_as_a_whole() -> None:
    held = HeldText(matcher("redact"), HOLD_BACK)
    said = [held.push(piece).text for piece in ("call 12345", "678 now, or later on")]
    assert "".join([*said, held.end().text]) == "call * now, or later on"
