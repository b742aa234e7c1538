"""When two spellings of a model's id mean the same one: in any case and any Unicode normal form."""

import unicodedata


def folded_id(model_id: str) -> str:
    """Equal for all spellings of one id, those of compatibility forms (full width, …) too."""
    if model_id.isascii():
        return model_id.lower()
    compatible = unicodedata.normalize("NFKC", model_id)
    return unicodedata.normalize("NFKC", compatible.casefold())


def same_model_id(model: str, other: str) -> bool:
    return folded_id(model) == folded_id(other)
