"""Stop strings and UTF-8 over any chunking of the stream."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chat_worker.text.detokenize import Detokenizer
from chat_worker.text.stops import StopFilter

ALPHABET = st.text("ab\n界", max_size=30)
STOPS = st.lists(st.text("ab\n界", min_size=1, max_size=4), max_size=3)


def reference(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Read character by character; the first stop that is complete ends the text."""
    for end in range(1, len(text) + 1):
        hits = [stop for stop in stops if text[:end].endswith(stop)]
        if hits:
            longest = max(hits, key=len)
            return text[: end - len(longest)], longest
    return text, None


def chunks(text: str, cuts: list[int]) -> list[str]:
    borders = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(borders)]


@given(ALPHABET, STOPS, st.lists(st.integers(0, 100), max_size=10))
def test_any_chunking_gives_the_text_up_to_the_first_stop(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    one = StopFilter(stops)
    shown = "".join(one.push(chunk) for chunk in chunks(text, cuts))
    if one.found is None:
        shown += one.flush()
    assert (shown, one.found) == reference(text, stops)


@given(ALPHABET, STOPS)
def test_no_more_is_held_back_than_could_begin_a_stop(text: str, stops: list[str]) -> None:
    one = StopFilter(stops)
    shown = one.push(text)
    if one.found is None:
        held = text[len(shown) :]
        assert not held or any(stop.startswith(held) for stop in stops)


@given(st.text(max_size=20), st.lists(st.integers(0, 200), max_size=12))
def test_any_chunking_of_the_bytes_gives_the_same_text(text: str, cuts: list[int]) -> None:
    encoded = text.encode()
    borders = sorted({0, len(encoded), *(cut % (len(encoded) + 1) for cut in cuts)})
    one = Detokenizer()
    pieces = [one.push(encoded[a:b]) for a, b in pairwise(borders)]
    assert "".join(pieces) + one.flush() == text


def test_a_character_cut_at_the_end_becomes_a_replacement_character() -> None:
    one = Detokenizer()
    assert one.push("界".encode()[:2]) == ""
    assert one.flush() == "\N{REPLACEMENT CHARACTER}"
