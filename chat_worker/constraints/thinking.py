"""Limits the thinking before an answer, and lets a grammar begin only after it.

This works on token ids: fixed runs of tokens open and close the thinking (`<think>` and `</think>`,
usually one token each). The closing run is forced when the budget is used up.
"""

from enum import Enum, auto

import numpy as np

from chat_worker.engine.sampling import LogitsRow, TokenConstraint


class _Stage(Enum):
    BEFORE = auto()
    THINKING = auto()
    CLOSING = auto()
    ANSWER = auto()


class ThinkingFirst:
    """An `engine.sampling.TokenConstraint` for a sequence that thinks, or may begin to.

    Args:
        opening, closing: the tokens around the thinking.
        begins_inside: the prompt has already opened the thinking.
        budget: the most thinking tokens; None: no limit.
        end_tokens: forbidden while thinking, if an answer must follow.
        answer: the constraint of the answer; None: the answer is free. With a constraint, the
            answer begins at once unless the prompt has opened the thinking.
    """

    def __init__(
        self,
        *,
        opening: list[int],
        closing: list[int],
        begins_inside: bool,
        budget: int | None,
        end_tokens: frozenset[int],
        answer: TokenConstraint | None,
    ) -> None:
        self._opening = opening
        self._closing = closing
        self._budget = budget
        self._answer = answer
        self._ends = np.fromiter(end_tokens if answer is not None else (), np.int64)
        self._recent: list[int] = []
        self._n_thought = 0
        self._n_closed = 0
        self._stage = _Stage.BEFORE
        if begins_inside:
            self._think()
        elif answer is not None:
            self._stage = _Stage.ANSWER

    @property
    def is_complete(self) -> bool:
        return (
            self._stage is _Stage.ANSWER and self._answer is not None and self._answer.is_complete
        )

    def mask(self, logits: LogitsRow) -> None:
        match self._stage:
            case _Stage.ANSWER if self._answer is not None:
                self._answer.mask(logits)
            case _Stage.THINKING:
                logits[self._ends] = -np.inf
            case _Stage.CLOSING:
                logits.fill(-np.inf)
                logits[self._closing[self._n_closed]] = 0.0
            case _:
                pass

    def accept(self, token: int) -> None:
        match self._stage:
            case _Stage.ANSWER if self._answer is not None:
                self._answer.accept(token)
            case _Stage.BEFORE:
                self._note(token, self._opening)
                if self._recent == self._opening:
                    self._think()
                elif len(self._recent) == len(self._opening) and token not in self._opening:
                    # An answer that does not begin with thinking contains none.
                    self._stage = _Stage.ANSWER
            case _Stage.THINKING:
                self._n_thought += 1
                self._note(token, self._closing)
                if self._recent == self._closing:
                    self._stage = _Stage.ANSWER
                elif self._n_thought == self._budget:
                    self._stage = _Stage.CLOSING
            case _Stage.CLOSING:
                self._n_closed += 1
                if self._n_closed == len(self._closing):
                    self._stage = _Stage.ANSWER
            case _:
                pass

    def _think(self) -> None:
        self._recent = []
        self._stage = _Stage.CLOSING if self._budget == 0 else _Stage.THINKING

    def _note(self, token: int, run: list[int]) -> None:
        self._recent = [*self._recent, token][-len(run) :]
