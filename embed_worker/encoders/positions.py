"""How many tokens of a text a model has positions for, and where it begins to count them."""

from typing import Any

# Of models that say nothing, and whose positions do not end: attention grows with the square.
MOST_TOKENS = 8192


def first_position(transformer: Any) -> int:
    """Of a text's first token: RoBERTa counts from behind the padding's."""
    padding = getattr(_table(transformer), "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def max_tokens(transformer: Any, *said: int | None) -> int:
    """Tokens of one row.

    Args:
        said: limits by the tokenizer or a configuration; those of None or 0 are none.
    """
    limits = [limit for limit in said if limit]
    if (rows := getattr(_table(transformer), "num_embeddings", None)) is not None:
        limits.append(int(rows) - first_position(transformer))
    elif not limits:
        limits = [getattr(transformer.config, "max_position_embeddings", None) or MOST_TOKENS]
    # Tokenizers say 10^30 for no limit.
    least = min(limits)
    return least if least < 1 << 31 else MOST_TOKENS


def _table(transformer: Any) -> Any:
    """A vector for each position; None: the model has no such table."""
    embeddings = getattr(transformer, "embeddings", None)
    return getattr(embeddings, "position_embeddings", None)
