"""Ends numbers in JSON: any count of digits is valid, so an unsure model may never stop."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# More characters than any double or 64-bit integer needs.
MAX_NUMBER_CHARS = 40
NUMBER_CHARS = frozenset(b"0123456789.eE+-")
_SIGNS = frozenset({b".", b"e", b"E", b"+", b"-"})
_QUOTE, _BACKSLASH = b'"'[0], b"\\"[0]


def continues_number(pieces: Sequence[bytes]) -> NDArray[np.bool_]:
    """For each token, given by its bytes, whether it would continue a number."""
    return np.fromiter((piece[:1].isdigit() or piece[:1] in _SIGNS for piece in pieces), np.bool_)


class NumberEnd:
    """Follows one answer; `must_come` is True when the current number has enough digits."""

    def __init__(self) -> None:
        self._n_chars = 0
        self._in_string = False
        self._escaped = False

    @property
    def must_come(self) -> bool:
        return self._n_chars >= MAX_NUMBER_CHARS

    def follow(self, piece: bytes) -> None:
        for byte in piece:
            if self._in_string:
                self._follow_string(byte)
            elif byte == _QUOTE:
                self._in_string, self._n_chars = True, 0
            else:
                self._n_chars = self._n_chars + 1 if byte in NUMBER_CHARS else 0

    def _follow_string(self, byte: int) -> None:
        if self._escaped:
            self._escaped = False
        elif byte == _BACKSLASH:
            self._escaped = True
        elif byte == _QUOTE:
            self._in_string = False
