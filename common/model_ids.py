"""When two ids name the same model. Clients write them in whatever case."""


def folded_id(model: str) -> str:
    """The same text for all ids of one model, as a key of a mapping."""
    return model.casefold()


def same_model_id(model: str, other: str) -> bool:
    return folded_id(model) == folded_id(other)
