"""Chooses a token from a row of logits. Pure numpy, the same for every backend.

Order, as in transformers and the OpenAI API: logit bias, penalties, the constraint, temperature,
then top-k, top-p and min-p, then one draw from the sequence's own generator. A seeded request
therefore draws the same random numbers whatever else is in the batch.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LogitsRow = NDArray[np.float32]


@dataclass(frozen=True)
class SamplingParams:
    """How the tokens of one sequence are chosen.

    Args:
        temperature: 0 means greedy.
        top_p: keeps the smallest set of tokens whose probability reaches this; 1 keeps all.
        top_k: keeps this many of the most likely tokens; 0 keeps all.
        min_p: drops tokens below this fraction of the most likely one's probability.
        repetition_penalty: divides (or multiplies, if negative) logits of prompt and output tokens.
        frequency_penalty, presence_penalty: subtracted for output tokens, per count and once.
        seed: None uses the system's entropy.
        logit_bias: added to the logits of these token ids.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """A token's log-probability and those of the most likely alternatives, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class DegenerateLogits(Exception):
    """The model returned NaN, or no finite logit, for a token."""


class ConstraintFailed(Exception):
    """A grammar has no allowed continuation, or exceeds its limits of cost."""


class TokenConstraint(Protocol):
    """Which tokens may follow in one sequence. Both methods may raise `ConstraintFailed`."""

    @property
    def is_complete(self) -> bool:
        """True when no token may follow."""

    def mask(self, logits: LogitsRow) -> None:
        """Set the logits of all tokens that may not come next to -inf; at least one remains."""

    def accept(self, token: int) -> None:
        """Record the chosen token, which may be an end token."""


class Sampler:
    """One sequence's sampling state: its generator, the tokens so far, its constraint."""

    def __init__(
        self,
        params: SamplingParams,
        prompt: list[int],
        choice: int = 0,
        constraint: TokenConstraint | None = None,
    ) -> None:
        self._params = params
        self._constraint = constraint
        self._random: np.random.Generator | None = None
        if params.temperature > 0:
            entropy = None if params.seed is None else (params.seed, choice)
            self._random = np.random.Generator(np.random.PCG64(entropy))
        self._counts: dict[int, int] = {}
        self._seen: dict[int, None] = (
            dict.fromkeys(prompt) if params.repetition_penalty != 1 else {}
        )
        self._bias_ids = np.fromiter(params.logit_bias.keys(), np.int64)
        self._bias = np.fromiter(params.logit_bias.values(), np.float32)

    def pick(self, logits: LogitsRow) -> int:
        """The next token.

        Args:
            logits: (n_vocab,) float32; may be overwritten.
        Raises:
            DegenerateLogits: there is no finite maximum.
            ConstraintFailed: the constraint has no allowed continuation.
        """
        self._adjust(logits)
        if self._constraint is not None:
            self._constraint.mask(logits)
        best = int(logits.argmax())
        peak = logits[best]
        if not np.isfinite(peak):
            raise DegenerateLogits
        token = best if self._random is None else self._draw(logits, peak, self._random)
        self._observe(token)
        if self._constraint is not None:
            self._constraint.accept(token)
        return token

    @property
    def is_complete(self) -> bool:
        """True when the constraint allows no further token."""
        return self._constraint is not None and self._constraint.is_complete

    def _adjust(self, logits: LogitsRow) -> None:
        params = self._params
        if self._bias_ids.size:
            logits[self._bias_ids] += self._bias
        if self._seen:
            ids = np.fromiter(self._seen, np.int64, len(self._seen))
            values = logits[ids]
            penalty = np.float32(params.repetition_penalty)
            logits[ids] = np.where(values > 0, values / penalty, values * penalty)
        if self._counts:
            ids = np.fromiter(self._counts.keys(), np.int64, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            logits[ids] -= counts * params.frequency_penalty + np.float32(params.presence_penalty)

    def _observe(self, token: int) -> None:
        params = self._params
        if params.frequency_penalty or params.presence_penalty:
            self._counts[token] = self._counts.get(token, 0) + 1
        if params.repetition_penalty != 1:
            self._seen[token] = None

    def _draw(self, logits: LogitsRow, peak: np.float32, random: np.random.Generator) -> int:
        params = self._params
        ids: NDArray[np.int64] | None = None
        scaled = (logits - peak) * np.float32(1 / params.temperature)
        if 0 < params.top_k < logits.size:
            ids = np.argpartition(scaled, logits.size - params.top_k)[-params.top_k :]
            scaled = scaled[ids]
        weights = np.exp(scaled)
        if params.top_p < 1:
            kept = nucleus(weights, params.top_p)
            ids = kept if ids is None else ids[kept]
            weights = weights[kept]
        if params.min_p > 0:
            # The best token's weight is exp(0) = 1, so the fraction is an absolute bound.
            kept = np.flatnonzero(weights >= params.min_p)
            ids = kept if ids is None else ids[kept]
            weights = weights[kept]
        index = draw(weights, random.random())
        return index if ids is None else int(ids[index])


def nucleus(weights: LogitsRow, top_p: float) -> NDArray[np.int64]:
    """Indices of the smallest set whose share of the total reaches `top_p`, most likely first.

    Args:
        weights: (n,) float32 unnormalised probabilities; the largest is 1.
    """
    wanted = float(weights.sum(dtype=np.float64)) * top_p
    # Only tokens above a bound are sorted; the bound is lowered until they suffice.
    for bound in (1e-2, 1e-4, 1e-7):
        head = np.flatnonzero(weights >= bound)
        if float(weights[head].sum(dtype=np.float64)) >= wanted:
            break
    else:
        head = np.arange(weights.size)
    # Stable, so that equal weights keep the order of their ids on every machine.
    order = head[np.argsort(-weights[head], kind="stable")]
    reached = np.cumsum(weights[order], dtype=np.float64)
    return order[: int(np.searchsorted(reached, wanted)) + 1]


BLOCK = 1024


def draw(weights: LogitsRow, uniform: float) -> int:
    """An index drawn in proportion to `weights`.

    Sums over blocks are searched first, so that a vocabulary of 150,000 needs two short searches.

    Args:
        uniform: a random number from [0, 1).
    """
    starts = np.arange(0, weights.size, BLOCK)
    reached = np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)
    target = uniform * reached[-1]
    block = min(int(np.searchsorted(reached, target, side="right")), starts.size - 1)
    within = weights[starts[block] : starts[block] + BLOCK]
    rest = target - (reached[block - 1] if block else 0.0)
    index = int(np.searchsorted(np.cumsum(within, dtype=np.float64), rest, side="right"))
    # Because of rounding, the search may end after the last positive weight.
    last = int(np.flatnonzero(within)[-1]) if within.any() else 0
    return int(starts[block]) + min(index, last)


def score(logits: LogitsRow, token: int, n_top: int) -> Scored:
    """Log-probabilities of `token` and of the `n_top` most likely ones: softmax of `logits`."""
    peak = float(logits.max())
    log_total = peak + float(np.log(np.exp(logits - np.float32(peak)).sum(dtype=np.float64)))
    top: tuple[tuple[int, float], ...] = ()
    if n_top:
        ids = np.argpartition(logits, logits.size - n_top)[-n_top:]
        ids = ids[np.lexsort((ids, -logits[ids]))]
        top = tuple((int(i), float(logits[i]) - log_total) for i in ids)
    return Scored(token, float(logits[token]) - log_total, top)
