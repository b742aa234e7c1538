"""Token ids of texts of any length, in bounded memory, reading no more text than needed.

While they encode, tokenizers need some 400 bytes for each token: a text of 8 MB took 2 GB. Long
texts are therefore encoded in pieces that begin with white space, which no token joins with the
text before it. Many texts are encoded in groups.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

# Returns the token ids of each text, without special tokens.
Encode: TypeAlias = Callable[[list[str]], list[list[int]]]
PIECE_CHARS = 32 * 1024
GROUP_CHARS = 256 * 1024
SPACE = re.compile(r"\s")


class Enough(NamedTuple):
    """How many tokens of a long text are needed, from its beginning or its end."""

    n_tokens: int
    from_end: bool = False


def is_long(text: str) -> bool:
    """Whether the text is encoded in pieces."""
    return len(text) > PIECE_CHARS


def token_ids(
    encode: Encode, texts: Sequence[str], enough: Enough | None = None
) -> list[list[int]]:
    """The result of `encode` for each text.

    Args:
        enough: no more pieces of long texts are encoded than this needs; None: all.
    """
    short = [text for text in texts if not is_long(text)]
    found = iter(_in_groups(encode, short))
    return [_in_pieces(encode, t, enough) if is_long(t) else next(found) for t in texts]


def _in_groups(encode: Encode, texts: Sequence[str]) -> Iterator[list[int]]:
    for group in _groups(texts):
        yield from encode(group)


def _in_pieces(encode: Encode, text: str, enough: Enough | None) -> list[int]:
    from_end = enough is not None and enough.from_end
    found: deque[list[int]] = deque()
    n_tokens = 0
    for piece in _pieces(text, from_end=from_end):
        (ids,) = encode([piece])
        n_tokens += len(ids)
        (found.appendleft if from_end else found.append)(ids)
        if enough is not None and n_tokens >= enough.n_tokens:
            break
    return list(chain.from_iterable(found))


def _pieces(text: str, *, from_end: bool) -> Iterable[str]:
    cuts = [0]
    while len(text) - cuts[-1] > PIECE_CHARS:
        whole = cuts[-1] + PIECE_CHARS
        space = SPACE.search(text, whole - PIECE_CHARS // 2, whole)
        cuts.append(space.start() if space else whole)
    bounds = list(pairwise([*cuts, len(text)]))
    return (text[start:end] for start, end in (reversed(bounds) if from_end else bounds))


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    n_chars = 0
    for text in texts:
        group.append(text)
        n_chars += len(text)
        if n_chars >= GROUP_CHARS:
            yield group
            group, n_chars = [], 0
    if group:
        yield group
