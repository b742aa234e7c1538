"""Texts in the form that rules are matched against, and the way back to the text itself.

`fold` removes what hides a word from a search: width, ligatures and other forms of a letter (NFKC),
case, and characters that nobody sees. The folded text may be shorter or longer; `Originals` tells
which characters of the text a part of it comes from.

Source: Unicode Standard, section 3.13 (NFKC_Casefold); DerivedCoreProperties.txt
(Default_Ignorable_Code_Point); Unicode Standard Annex 15, section 13 (stream-safe text).
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, pairwise
from unicodedata import category, normalize

# Default_Ignorable_Code_Point: zero-width characters, marks of direction, soft hyphens, fillers.
_IGNORED = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ignorable = re.compile(f"[{_IGNORED}]+")
# All characters outside of blocks without ignorable ones: a class of few ranges is quicker.
_maybe_ignorable = re.compile("[^\0-\xac\xae-\u034e\u3000-\u3163\u3165-\ufdff\uff00-\uff9f]")
# Frequent in Chinese and Japanese; with them in the text, `normalize` takes a hundred times longer.
_WIDE = tuple(zip("，！？：；（）　", ",!?:;() ", strict=True))
# The time to normalize a run of combining marks grows with the square of its length.
_PIECE = 512
_MOST_MARKS = 32


def fold(text: str) -> str:
    """The text as rules see it."""
    if text.isascii():
        return text.lower()
    if len(text) <= _PIECE:
        return _fold(text)
    return "".join(map(_fold, _pieces(text)))


def without_ignorable(text: str) -> str:
    """The text without the characters that nobody sees."""
    return _ignorable.sub("", text)


def begins_anew(text: str, at: int) -> bool:
    """Whether the character at `at` is folded alike whatever is before it."""
    char = text[at]
    if char.isascii():
        return True
    first = normalize("NFKD", char)[0]
    # Vowels and final consonants of Hangul follow a consonant.
    is_jamo = "\u1160" <= first <= "\u11ff"
    return not (is_jamo or category(first)[0] == "M" or _ignorable.match(char))


class Originals:
    """Where the parts of a folded text come from."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_ascii = text.isascii()
        pieces = [] if self._is_ascii else list(_pieces(text))
        # Where each piece begins, in the text and in its folded form.
        self._begins = [0, *accumulate(map(len, pieces))]
        self._folded = [0, *accumulate(len(_fold(piece)) for piece in pieces)]
        # Of the piece that was asked for last: its number, and where its clusters begin in both.
        self._latest: tuple[int, list[int], list[int]] = (-1, [], [])

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The part of the text that became `start` to `end` (not included) of its folded form.

        Characters that are folded together, such as a letter and its accent, are not divided.
        """
        if self._is_ascii or start >= end:
            return start, end
        return self._cluster(start)[0], self._cluster(end - 1)[1]

    def _cluster(self, folded: int) -> tuple[int, int]:
        """The characters that the one at `folded` comes from."""
        number = min(bisect_right(self._folded, folded), len(self._folded) - 1) - 1
        if self._latest[0] != number:
            self._latest = (number, *self._clusters(number))
        _, begins, folds = self._latest
        at = bisect_right(folds, folded, hi=len(folds) - 1) - 1
        return begins[at], begins[at + 1]

    def _clusters(self, number: int) -> tuple[list[int], list[int]]:
        """Where the clusters of a piece begin, in the text and in its folded form, and its ends."""
        begin, end = self._begins[number], self._begins[number + 1]
        cuts = (i for i in range(begin + 1, end) if begins_anew(self._text, i))
        begins = [begin, *cuts, end]
        lengths = (len(_fold(self._text[a:b])) for a, b in pairwise(begins))
        return begins, list(accumulate(lengths, initial=self._folded[number]))


def _fold(piece: str) -> str:
    if not _is_western(piece):
        if _maybe_ignorable.search(piece):
            piece = without_ignorable(piece)
        for wide, narrow in _WIDE:
            piece = piece.replace(wide, narrow)
    piece = normalize("NFKC", piece)
    folded = piece.casefold()
    return piece if folded == piece else normalize("NFKC", folded)


def _is_western(piece: str) -> bool:
    """Whether it has no character beyond Latin-1, and no soft hyphen."""
    try:
        return b"\xad" not in piece.encode("latin-1")
    except UnicodeEncodeError:
        return False


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces that are folded one by one, cut where it changes nothing but the fold of
    an absurd number of marks on one letter."""
    begin = 0
    while begin < len(text):
        end = min(begin + _PIECE, len(text))
        latest = min(end + _MOST_MARKS, len(text))
        while end < latest and not begins_anew(text, end):
            end += 1
        yield text[begin:end]
        begin = end
