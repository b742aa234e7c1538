"""Guesses how a sequence goes on, so that several tokens are computed in one step.

Answers often repeat what stands in their prompt: names, code, quotations. Where the last tokens
came before, what followed them then is computed along with the next token, and kept as far as the
sampler chooses the same. The answer is therefore exactly what it would be without guesses, greedy
or sampled.

Source: Saxena 2023, Prompt Lookup Decoding; exactness: Leviathan et al. 2023, for a guess that is
certain.
"""

# A guess needs so many equal tokens before it.
N_GRAM = 4
# With the certain token before it a guess makes a batch of 4, 8 or 16, which processors' matrix
# kernels are made for: 2 or 3 cost them as much as 4.
SIZES = (3, 7, 15)
# A wrong guess costs one to two steps; after each in a row the pause doubles.
FIRST_PAUSE, MAX_PAUSE = 16, 256


class Lookup:
    """One sequence's guesses: what it has seen, and how much to trust that."""

    def __init__(self) -> None:
        # Where each run of tokens last ended, the sequence's own end left out.
        self._ends: dict[tuple[int, ...], int] = {}
        self._n_indexed = 0
        self._size = 0
        self._pause = FIRST_PAUSE
        self._n_paused = 0

    def guess(self, tokens: list[int], most: int) -> tuple[int, ...]:
        """Up to `most` tokens that may follow; mostly none."""
        if self._n_paused:
            self._n_paused -= 1
            return ()
        if most < 1 or len(tokens) <= N_GRAM:
            return ()
        for end in range(max(self._n_indexed, N_GRAM), len(tokens)):
            self._ends[tuple(tokens[end - N_GRAM : end])] = end
        self._n_indexed = len(tokens)
        found = self._ends.get(tuple(tokens[-N_GRAM:]))
        if found is None:
            return ()
        # What follows may itself be what is guessed, in text that goes round in circles.
        period = len(tokens) - found
        n_tokens = min(SIZES[self._size], most)
        return tuple(tokens[found + i % period] for i in range(n_tokens))

    def learn(self, n_guessed: int, n_right: int) -> None:
        """How the last guess turned out."""
        if n_right == n_guessed:
            self._size = min(self._size + 1, len(SIZES) - 1)
        elif n_right <= n_guessed // 2:
            self._size = max(self._size - 1, 0)
        if n_right:
            self._pause = FIRST_PAUSE
        else:
            self._n_paused = self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE)
