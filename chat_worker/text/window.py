"""Finds how much of a long input fits, by looking at windows at its end.

Counting the tokens of the whole input would take time in proportion to what a client sends. Here
the first window is a few times as long as what fits, and only input that fits into a window doubles
the next one. Between the longest part known to fit and the shortest part known not to fit, the
search interpolates by their characters and tokens. The text that is rendered and tokenized is thus
a small multiple of what fits, whatever the input, and the result depends on exact counts only.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence

# Ordinary text has three to four characters a token. So input up to twice too long is counted
# completely, and so is all input that is cheap to count.
WINDOW_CHARS_PER_TOKEN = 8
LEAST_WINDOW_CHARS = 64 * 1024
# One step in this many bisects instead of interpolating, which makes uneven input fast too.
HALVE_EVERY = 3


def first_window(max_tokens: int) -> int:
    """The number of characters in the first window."""
    return max(WINDOW_CHARS_PER_TOKEN * max_tokens, LEAST_WINDOW_CHARS)


class LongestFit:
    """Finds the largest number of units, such as turns counted from the newest, that fits.

    Args:
        encode: returns the tokens of a prompt with so many units; more units have more tokens.
        chars: the number of characters of a prompt with 0, 1, 2 … units, before it is rendered.
    """

    def __init__(
        self, encode: Callable[[int], list[int]], chars: Sequence[int], max_tokens: int
    ) -> None:
        self._encode = encode
        self._chars = chars
        self._max_tokens = max_tokens
        self._n_units = len(chars) - 1
        # The largest part whose tokens were counted.
        self._n_units_counted = -1
        self.n_counted = 0
        # The largest part that fits.
        self.n_kept = 0
        self.tokens: list[int] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all units fit."""
        return self.n_kept == self._n_units and self.tokens is not None

    @property
    def has_counted_all(self) -> bool:
        return self._n_units_counted == self._n_units

    def n_tokens_in(self, n_chars: int) -> int:
        """The number of tokens in `n_chars` of input, estimated from the largest counted part.

        The number is exact for the whole of that part.
        """
        counted_chars = self._chars[max(self._n_units_counted, 0)]
        return self.n_counted * n_chars // counted_chars if counted_chars else self.n_counted

    def search(self, most: int, *, only_whole: bool = False) -> None:
        """Find `n_kept` and its `tokens`, which are None if not even one unit fits.

        Args:
            most: the largest number of units to try.
            only_whole: stop at the first part that does not fit.
        """
        begin = self._units_in(first_window(self._max_tokens))
        if begin == self._n_units and (begin > most or not begin):
            # It is short enough to be counted completely.
            tokens = self._count(begin)
            if begin <= most and len(tokens) <= self._max_tokens:
                self.tokens = tokens
        if not only_whole or most == self._n_units:
            self._search(min(max(begin, 1), most), most, only_whole=only_whole)

    def _search(self, n: int, most: int, *, only_whole: bool) -> None:
        # The bounds of the search: the number of units and their tokens.
        fits, fails = (0, 0), (most + 1, 0)
        n_steps = 0
        while fits[0] + 1 < fails[0]:
            tokens = self._count(n)
            if len(tokens) <= self._max_tokens:
                fits, self.n_kept, self.tokens = (n, len(tokens)), n, tokens
            elif only_whole:
                return
            else:
                fails = (n, len(tokens))
            n_steps += 1
            n = self._next(fits, fails, n_steps, most)

    def _next(self, fits: tuple[int, int], fails: tuple[int, int], n_steps: int, most: int) -> int:
        """The next number of units to try, between both bounds."""
        if fails[0] > most:
            n = self._units_in(2 * max(self._chars[fits[0]], first_window(self._max_tokens)))
        elif n_steps % HALVE_EVERY == 0:
            n = (fits[0] + fails[0]) // 2
        else:
            low, high = self._chars[fits[0]] if fits[0] else 0, self._chars[fails[0]]
            share = (self._max_tokens - fits[1]) / (fails[1] - fits[1])
            n = self._units_in(low + int((high - low) * share))
        return min(max(n, fits[0] + 1), fails[0] - 1)

    def _units_in(self, n_chars: int) -> int:
        return max(bisect_right(self._chars, n_chars) - 1, 0)

    def _count(self, n: int) -> list[int]:
        tokens = self._encode(n)
        if n > self._n_units_counted:
            self._n_units_counted, self.n_counted = n, len(tokens)
        return tokens
