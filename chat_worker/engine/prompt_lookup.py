"""Guesses how a sequence goes on, so that several tokens are computed in one step.

Answers often repeat what stands in their prompt: names, code, quotations. Where the last tokens
came before, what followed them then is computed along with the next token, and kept as far as the
sampler chooses the same. The answer is therefore what it would be without guesses, greedy or
sampled. How far to guess follows from how often this sequence's guesses were right and from what
batches of each size were measured to cost.

Source: Saxena 2023, Prompt Lookup Decoding; exactness: Leviathan et al. 2023, for a guess that is
certain; the choice of the length: their section 3.3.
"""

# A guess needs so many equal tokens before it.
N_GRAM = 4
# With the certain token before it a guess makes a batch of 4, 8 or 16, which processors' matrix
# kernels are made for: 2 or 3 cost them as much as 4.
SIZES = (3, 7, 15)
# What is believed before anything was guessed: so many tokens right, so many wrong; and how much
# of it still counts after each guess.
RIGHT, WRONG, MEMORY = 4.0, 1.0, 0.8
# A guess must promise to be that much faster than none.
MIN_GAIN = 1.05
# Steps without a guess after one that was all wrong, and until trust has mostly come back.
PAUSE, RECOVERY = 16, 128


class Costs:
    """What steps of pure decoding cost by the size of their batch, as measured."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, n_rows: int, seconds: float) -> None:
        known = self._seconds.get(n_rows)
        # The first of a size may be slow for other reasons, so later ones count fully too.
        self._seconds[n_rows] = seconds if known is None else known + (seconds - known) / 4

    def seconds(self, n_rows: int) -> float:
        """Of a step that decodes `n_rows` tokens; 0: not known yet."""
        return self._seconds.get(n_rows, 0.0)

    def ratio(self, n_rows: int, n_extra: int) -> float:
        """Cost of `n_rows` and `n_extra` more over that of `n_rows`."""
        known = self._seconds.get(n_rows)
        larger = self._seconds.get(n_rows + n_extra)
        if known and larger:
            return larger / known
        # Never seen: what two cores without a graphics processor need, so that a look is rare.
        return 1 + n_extra / (n_rows + 3)


class PromptLookup:
    """One sequence's guesses: what it has seen, and how much to trust that."""

    def __init__(self) -> None:
        # Where each run of tokens last ended, the sequence's own end left out.
        self._ends: dict[tuple[int, ...], int] = {}
        self._n_indexed = 0
        self._right, self._wrong = RIGHT, WRONG
        self._n_paused = 0

    def guess(self, tokens: list[int], most: int, n_rows: int, costs: Costs) -> tuple[int, ...]:
        """Up to `most` tokens that may follow; mostly none.

        Args:
            n_rows: sequences that decode in this step, each with a token.
        """
        if self._n_paused:
            self._n_paused -= 1
            return ()
        if len(tokens) <= N_GRAM:
            return ()
        for end in range(max(self._n_indexed, N_GRAM), len(tokens)):
            self._ends[tuple(tokens[end - N_GRAM : end])] = end
        self._n_indexed = len(tokens)
        found = self._ends.get(tuple(tokens[-N_GRAM:]))
        if found is None:
            return ()
        size = self._size(most, n_rows, costs)
        # What follows may itself be what is guessed, in text that goes round in circles.
        period = len(tokens) - found
        return tuple(tokens[found + i % period] for i in range(size))

    def learn(self, n_guessed: int, n_right: int) -> None:
        """How the last guess turned out."""
        self._right = self._right * MEMORY + n_right
        self._wrong = self._wrong * MEMORY + (n_right < n_guessed)
        if not n_right:
            self._n_paused = PAUSE

    def _size(self, most: int, n_rows: int, costs: Costs) -> int:
        """The length that promises most tokens for its time; 0 if none promises enough."""
        share = self._right / (self._right + self._wrong)
        best, best_gain = 0, MIN_GAIN
        for size in SIZES:
            if size > most:
                break
            tokens = n_rows - 1 + (1 - share ** (size + 1)) / (1 - share) if share < 1 else size
            gain = tokens / n_rows / costs.ratio(n_rows, size)
            if gain > best_gain:
                best, best_gain = size, gain
        if not best and share < RIGHT / (RIGHT + WRONG):
            # Text changes: it is looked at again after a while.
            self._right += (RIGHT - self._right) / RECOVERY
            self._wrong += (WRONG - self._wrong) / RECOVERY
        return best
