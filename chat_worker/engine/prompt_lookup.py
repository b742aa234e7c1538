"""Guesses the next tokens of a sequence, so that several tokens are computed in one step.

Answers often repeat parts of their prompt: names, code, quotations. If the last tokens occurred
before, the tokens that followed them there are computed together with the next token, and accepted
as long as the sampler chooses the same tokens. The answer is therefore the same as without guesses,
greedy or sampled. The length of a guess depends on how often this sequence's guesses were right,
and on the measured cost of batches of each size.

Source: Saxena 2023, Prompt Lookup Decoding; exactness: Leviathan et al. 2023, for a deterministic
guess; the choice of the length: their section 3.3.
"""

from collections.abc import Mapping
from types import MappingProxyType

# A guess needs this many equal tokens before it.
N_GRAM = 4
# Together with the certain token, a guess makes a batch of 4, 8 or 16, for which processors' matrix
# kernels are made: 2 or 3 tokens cost as much as 4.
SIZES = (3, 7, 15)
# The assumed counts of right and wrong tokens before the first guess, and the share of them that
# remains after each guess.
RIGHT, WRONG, MEMORY = 4.0, 1.0, 0.8
# The least expected speed-up for which a guess is made.
MIN_GAIN = 1.05
# The steps without a guess after one that was all wrong, and the steps until the estimate of right
# tokens has mostly recovered.
PAUSE, RECOVERY = 16, 128

# What a step costs besides its rows, in rows, where it was not measured: as on two cores without a
# GPU.
FIXED_ROWS = 3


class Costs:
    """The measured costs of pure decoding steps, by the size of their batch.

    Args:
        known: seconds that were measured before.
    """

    def __init__(self, known: Mapping[int, float] = MappingProxyType({})) -> None:
        self._seconds = dict(known)

    @property
    def seconds(self) -> dict[int, float]:
        return dict(self._seconds)

    def learn(self, n_rows: int, seconds: float) -> None:
        known = self._seconds.get(n_rows)
        # The first step of a size may be slow for other reasons, so later ones are averaged in.
        self._seconds[n_rows] = seconds if known is None else known + (seconds - known) / 4

    def near(self, n_rows: int) -> float:
        """Seconds of a step that decodes `n_rows` tokens, or of the known one nearest to it; 0 if
        none is known."""
        if not n_rows or not self._seconds:
            return 0.0
        return self._seconds[self._nearest(n_rows)]

    def expected(self, n_rows: int) -> float:
        """Seconds of a step that decodes `n_rows` tokens, reckoned from the known one nearest to
        it; 0 if none is known."""
        if not self._seconds:
            return 0.0
        known = self._nearest(n_rows)
        return self._seconds[known] * (n_rows + FIXED_ROWS) / (known + FIXED_ROWS)

    def ratio(self, n_rows: int, n_extra: int) -> float:
        """The cost of `n_rows` plus `n_extra` tokens, divided by the cost of `n_rows`."""
        known = self._seconds.get(n_rows)
        larger = self._seconds.get(n_rows + n_extra)
        if known and larger:
            return larger / known
        # Not measured yet: guesses are rarely tried.
        return 1 + n_extra / (n_rows + FIXED_ROWS)

    def _nearest(self, n_rows: int) -> int:
        """The known size that is nearest; at least one is known."""
        return min(self._seconds, key=lambda known: abs(known - n_rows))


class PromptLookup:
    """One sequence's guesses: the tokens so far, and how often guesses were right."""

    def __init__(self) -> None:
        # Where each run of tokens last ended, except at the sequence's own end.
        self._ends: dict[tuple[int, ...], int] = {}
        self._n_indexed = 0
        self._right, self._wrong = RIGHT, WRONG
        self._n_paused = 0

    def guess(self, tokens: list[int], most: int, n_rows: int, costs: Costs) -> tuple[int, ...]:
        """Up to `most` tokens that may follow; usually none.

        Args:
            n_rows: the number of sequences that decode one token each in this step.
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
        # In text that repeats itself, the guessed tokens may themselves be repeated.
        period = len(tokens) - found
        return tuple(tokens[found + i % period] for i in range(size))

    def learn(self, n_guessed: int, n_right: int) -> None:
        """Record how many tokens of the last guess were right."""
        self._right = self._right * MEMORY + n_right
        self._wrong = self._wrong * MEMORY + (n_right < n_guessed)
        if not n_right:
            self._n_paused = PAUSE

    def _size(self, most: int, n_rows: int, costs: Costs) -> int:
        """The length with the most expected tokens for its cost; 0 if none gains enough."""
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
            # The text may change: after a while guesses are tried again.
            self._right += (RIGHT - self._right) / RECOVERY
            self._wrong += (WRONG - self._wrong) / RECOVERY
        return best
