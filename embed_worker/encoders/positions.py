"""Where a model begins to count its tokens."""

from typing import Any


def first_position(transformer: Any) -> int:
    """Of a text's first token: RoBERTa counts from behind the padding's."""
    embeddings = getattr(transformer, "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return 0 if padding is None else int(padding) + 1
