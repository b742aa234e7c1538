"""Log-probabilities of a prompt's own tokens, for clients that ask how likely a text is."""

from collections.abc import Sequence as Rows

from chat_worker.engine.outputs import PromptScored
from chat_worker.engine.runner import ScheduledTokens
from chat_worker.engine.sampling import LogitsRow, score


def score_prompt(item: ScheduledTokens, rows: Rows[LogitsRow]) -> PromptScored:
    """Score the prompt tokens that follow those of `item`; each token is scored once.

    Args:
        rows: of all of the item's tokens.
    """
    sequence = item.sequence
    # Row i gives the probability of token i + 1; the last row belongs to no prompt token.
    following = sequence.tokens[item.start + 1 : min(item.start + 1 + len(rows), sequence.n_prompt)]
    scores = [
        score(row, token, sequence.n_top or 0) for row, token in zip(rows, following, strict=False)
    ]
    # Tokens computed again after a preemption have been reported already.
    fresh = scores[sequence.n_prompt - 1 - sequence.n_unscored - item.start :]
    sequence.n_unscored -= len(fresh)
    return PromptScored(sequence, fresh)
