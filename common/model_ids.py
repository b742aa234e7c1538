"""Compares model ids regardless of case and Unicode normal form."""

import unicodedata


def folded_id(model_id: str) -> str:
    """The same for all spellings of one id, also in compatibility forms such as full width."""
    if model_id.isascii():
        return model_id.lower()
    compatible = unicodedata.normalize("NFKC", model_id)
    return unicodedata.normalize("NFKC", compatible.casefold())


def same_model_id(model: str, other: str) -> bool:
    return folded_id(model) == folded_id(other)
