"""The position number of a text's first token."""

from typing import Any


def first_position(transformer: Any) -> int:
    """The first position: RoBERTa counts from the position after the padding's."""
    embeddings = getattr(transformer, "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return 0 if padding is None else int(padding) + 1
