"""What steps cost, learnt from those that were measured.

A step with prompts takes `fixed + n × (per token + per token of depth × depth)` seconds: reading
the weights, multiplying by them, and attending to the tokens before. The three figures are fitted
to the latest steps by least squares of relative errors, none below zero. Steps that are few, or all
alike, do not show them apart. So what is usual counts like some more steps: reading the weights
costs as much as 16 tokens, and a token costs twice as much at a depth of 8,192.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from chat_worker.engine.kept_costs import MeasuredCosts
from chat_worker.engine.prompt_lookup import Costs
from chat_worker.engine.runner import ScheduledTokens
from chat_worker.engine.work_seen import WorkSeen

WINDOW = 48
# Each step counts so much more than the one before it: speeds change with what else runs.
RECENT = 1.2
USUAL_FIXED_TOKENS, USUAL_DOUBLING_DEPTH = 16.0, 8192.0
# Rows that say that the three figures are equal in these units, with their weights.
USUAL = np.array([[0.05, -0.05, 0.0], [0.0, -0.1, 0.1]])
# A piece is efficient if its tokens cost at most this much more than those of a very large piece.
EFFICIENT = 0.25
# A piece has at most so many times the tokens of the largest that was measured.
GROWTH = 4
FIRST_TOKENS = 64
# Of steps with prompts and answers, the latest counts this much.
MIXED_SHARE = 1 / 8
# What remains of their share after a step with prompts only.
MIXED_MEMORY = 0.98
# Below this share of their cost alone, answers are computed with prompts.
CHEAP_MIXED = 0.5


class StepCosts:
    """The costs of prompts, of answers, and of both in one step.

    Args:
        splits: the backend computes the prompts and the answers of a step one after the other, so
            that together they cost as much as apart.
        known: what was learnt before.
    """

    def __init__(self, *, splits: bool, known: MeasuredCosts | None = None) -> None:
        self.answers = Costs(known.answers if known else {})
        self._work = WorkSeen(known.products if known else {})
        self._splits = splits
        # The share of the answers' cost that remains in a step with prompts.
        self._mixed = 1.0 if splits else 0.0
        self._steps: deque[tuple[NDArray[np.float64], float]] = deque(maxlen=WINDOW)
        self._largest = 0
        self._figures = np.zeros(3)
        if known is not None and known.steps:
            self._steps += ((np.array(features), seconds) for *features, seconds in known.steps)
            self._largest = known.largest
            self._mixed = 1.0 if splits else known.mixed
            self._figures = _fitted(self._steps)

    @property
    def measured(self) -> MeasuredCosts:
        """What was learnt, to be kept for the next load."""
        steps = [(*features.tolist(), seconds) for features, seconds in self._steps]
        answers_s, products = self.answers.seconds, self._work.products
        return MeasuredCosts(steps, self._largest, self._mixed, answers_s, products)

    @property
    def mixing_pays(self) -> bool:
        return self._mixed < CHEAP_MIXED

    def learn(self, items: list[ScheduledTokens], seconds: float) -> None:
        """Learn from a step that took `seconds`; items of one token are answers."""
        self._work.learn(items)
        prompts = [item for item in items if item.n_tokens > 1]
        if not prompts:
            self.answers.learn(sum(item.n_rows for item in items), seconds)
            return
        features = _features([(item.n_tokens, item.start) for item in prompts])
        answers_s = self.answers.near(len(items) - len(prompts))
        self._largest = max(self._largest, sum(item.n_tokens for item in prompts))
        if not answers_s or not self._steps:
            self._steps.append((features, seconds))
            self._figures = _fitted(self._steps)
            # It may have been this model that was wrong: mixed steps are tried again later.
            self._mixed = 1.0 if self._splits else self._mixed * MIXED_MEMORY
        elif not self._splits:
            share = (seconds - float(self._figures @ features)) / answers_s
            change = min(max(share, -1.0), 2.0) - self._mixed
            self._mixed = min(max(self._mixed + change * MIXED_SHARE, 0.0), 1.0)

    def seconds(self, n_tokens: int, depth: int) -> float:
        """Of one prompt's `n_tokens` after `depth` others; 0 if nothing is known."""
        return float(self._figures @ _features([(n_tokens, depth)]))

    def tokens_in(self, seconds: float, depth: int) -> int:
        """How many tokens of a prompt take so long; not many more than were ever measured."""
        if not self._largest:
            return FIRST_TOKENS
        fixed, token, deeper = self._per_token(depth)
        left = max(seconds - fixed, 0.0)
        # The root of deeper / 2 × n² + token × n = left, in the form that has no division by zero.
        n_tokens = 2 * left / (token + (token**2 + 2 * deeper * left) ** 0.5 + 1e-12)
        return int(min(n_tokens, GROWTH * self._largest))

    def efficient_tokens(self, depth: int) -> int:
        """The size from which on pieces of a prompt cost little more a token than the whole."""
        if not self._largest:
            return FIRST_TOKENS
        fixed, token, _ = self._per_token(depth)
        return int(min(fixed / (EFFICIENT * token + 1e-12) + 1, GROWTH * self._largest))

    def answers_s(self, n_answers: int) -> float:
        """Of a step with the next tokens of so many answers; 0 if nothing is known."""
        return self.answers.near(n_answers)

    def waste_s(self, n_answers: int, n_later: int) -> float:
        """What a step of so many answers costs more than their share of a step of `n_later`."""
        share_s = self.answers.expected(n_later) * n_answers / n_later
        return max(self.answers.expected(n_answers) - share_s, 0.0)

    def _per_token(self, depth: int) -> tuple[float, float, float]:
        """Seconds: fixed, of a token at `depth`, and by how much each token more adds to that."""
        fixed = float(self._figures[0]) * USUAL_FIXED_TOKENS
        deeper = float(self._figures[2]) / USUAL_DOUBLING_DEPTH
        return fixed, float(self._figures[1]) + deeper * depth, deeper


def _features(prompts: list[tuple[int, int]]) -> NDArray[np.float64]:
    """Of prompts' pieces computed in one step, by their numbers of tokens and depths."""
    n_tokens = sum(n for n, _ in prompts)
    at_depth = sum(n * (depth + n / 2) for n, depth in prompts)
    return np.array([USUAL_FIXED_TOKENS, n_tokens, at_depth / USUAL_DOUBLING_DEPTH])


def _fitted(steps: deque[tuple[NDArray[np.float64], float]]) -> NDArray[np.float64]:
    weights = RECENT ** np.arange(-len(steps) + 1.0, 1.0)
    relative = np.array([features / max(seconds, 1e-6) for features, seconds in steps])
    tokens_a_second = np.average(relative[:, 1], weights=weights)
    rows = np.vstack([relative * weights[:, None], USUAL * tokens_a_second])
    wanted = np.concatenate([weights, np.zeros(len(USUAL))])
    used = [0, 1, 2]
    while True:
        found = np.linalg.lstsq(rows[:, used], wanted)[0]
        kept = [column for column, figure in zip(used, found, strict=True) if figure > 0]
        if len(kept) == len(used):
            figures = np.zeros(3)
            figures[used] = found
            return figures
        used = kept
