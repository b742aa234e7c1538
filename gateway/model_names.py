"""Which model a request means that names it as other servers, hubs and files do."""

from collections.abc import Callable, Iterator, Mapping

from common.model_ids import folded_id

LATEST, GGUF = ":latest", ".gguf"


class ModelNames:
    """
    Args:
        aliases: what clients may call a model, and its id.
        falls_back: whether a name that nobody knows means the default model.
    """

    def __init__(self, aliases: Mapping[str, str], *, falls_back: bool) -> None:
        self._aliases = {folded_id(alias): model for alias, model in aliases.items()}
        self._falls_back = falls_back

    def meant(self, name: str, is_known: Callable[[str], bool]) -> str:
        """The id of the model that `name` means; "": the default one. As it is if nobody knows it:
        its file may have come a moment ago, and else the worker says what there is."""
        found = self.known(name, is_known)
        if found is not None:
            return found
        return "" if self._falls_back else name

    def known(self, name: str, is_known: Callable[[str], bool]) -> str | None:
        """As `meant`, of names that somebody knows."""
        if is_known(name):
            return name
        for spelling in spellings(name):
            if is_known(spelling):
                return spelling
            if (model := self._aliases.get(folded_id(spelling))) is not None:
                return next(filter(is_known, spellings(model)), model)
        return None


def spellings(name: str) -> Iterator[str]:
    """`name`, and what is left of it without Ollama's tag, a file's ending, a hub's owner."""
    yield name
    bare = _without(_without(name, LATEST), GGUF)
    last = bare.rpartition("/")[2]
    yield from (rest for rest in (bare, last) if rest)


def _without(name: str, end: str) -> str:
    return name[: -len(end)] if name.lower().endswith(end) else name
