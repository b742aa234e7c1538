"""Budgets of thinking, and grammars that begin after it."""

import numpy as np

from chat_worker.constraints.thinking import ThinkingFirst
from chat_worker.engine.sampling import LogitsRow

OPEN, CLOSE, END, WORD, OTHER = 1, 2, 3, 4, 5
N_VOCAB = 8


class Only:
    """An answer that may be one token only."""

    def __init__(self) -> None:
        self.is_complete = False

    def mask(self, logits: LogitsRow) -> None:
        kept = logits[OTHER]
        logits.fill(-np.inf)
        logits[OTHER] = kept

    def accept(self, token: int) -> None:
        assert token == OTHER
        self.is_complete = True


def allowed(constraint: ThinkingFirst) -> set[int]:
    logits = np.zeros(N_VOCAB, np.float32)
    constraint.mask(logits)
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def thinking(budget: int | None, answer: Only | None = None, inside: bool = True) -> ThinkingFirst:
    return ThinkingFirst(
        opening=[OPEN],
        closing=[CLOSE],
        begins_inside=inside,
        budget=budget,
        end_tokens=frozenset({END}),
        answer=answer,
    )


def test_thinking_is_closed_when_its_budget_is_used_up() -> None:
    constraint = thinking(budget=2)
    for _ in range(2):
        assert allowed(constraint) == set(range(N_VOCAB))
        constraint.accept(WORD)
    assert allowed(constraint) == {CLOSE}
    constraint.accept(CLOSE)
    assert allowed(constraint) == set(range(N_VOCAB))


def test_a_budget_of_nothing_closes_at_once() -> None:
    assert allowed(thinking(budget=0)) == {CLOSE}


def test_thinking_that_the_model_opens_itself_counts_too() -> None:
    constraint = thinking(budget=1, inside=False)
    constraint.accept(OPEN)
    constraint.accept(WORD)
    assert allowed(constraint) == {CLOSE}


def test_an_answer_that_does_not_begin_with_thinking_is_free() -> None:
    constraint = thinking(budget=1, inside=False)
    for token in (WORD, OPEN, WORD, WORD):
        assert allowed(constraint) == set(range(N_VOCAB))
        constraint.accept(token)


def test_the_grammar_begins_after_the_thinking_which_must_lead_to_an_answer() -> None:
    constraint = thinking(budget=None, answer=Only())
    assert allowed(constraint) == set(range(N_VOCAB)) - {END}
    constraint.accept(WORD)
    constraint.accept(CLOSE)
    assert allowed(constraint) == {OTHER}
    assert not constraint.is_complete
    constraint.accept(OTHER)
    assert constraint.is_complete


def test_a_grammar_begins_at_once_if_nothing_was_opened() -> None:
    assert allowed(thinking(budget=None, answer=Only(), inside=False)) == {OTHER}
