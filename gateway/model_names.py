"""Finds the model of a request that names it the way other servers, hubs or files do."""

from collections.abc import Callable, Iterator, Mapping

from common.model_ids import folded_id

LATEST, GGUF = ":latest", ".gguf"


class ModelNames:
    """The names under which clients may ask for models.

    Args:
        aliases: ids of models, by the other names that clients may use for them.
        falls_back: whether an unknown name refers to the default model.
        of_workers: the id of the model that a worker knows by another name; None if none does.
        custom: the id of the model under a name that clients made; None if they made none.
    """

    def __init__(
        self,
        aliases: Mapping[str, str],
        *,
        falls_back: bool,
        of_workers: Callable[[str], str | None] = lambda _: None,
        custom: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._aliases = {folded_id(alias): model for alias, model in aliases.items()}
        self._falls_back = falls_back
        self._of_workers = of_workers
        self._custom = custom

    def meant(self, name: str, is_known: Callable[[str], bool]) -> str:
        """Return the id of the model that `name` refers to; empty for the default model.

        An unknown name is returned unchanged, unless it refers to the default model: its file may
        be new, and otherwise the worker's error lists the models that there are.
        """
        found = self.known(name, is_known)
        if found is not None:
            return found
        return "" if self._falls_back else name

    def known(self, name: str, is_known: Callable[[str], bool]) -> str | None:
        """Return the id of the model that `name` refers to, or None if the name is unknown."""
        if is_known(name):
            return name
        if (made := self._custom(name)) is not None:
            return made
        for spelling in spellings(name):
            if is_known(spelling):
                return spelling
            if (model := self.aliased(spelling, is_known)) is not None:
                return model
        return None

    def aliased(self, name: str, is_known: Callable[[str], bool]) -> str | None:
        """Return the id of the model that has exactly this alias, or None."""
        if (model := self._aliases.get(folded_id(name))) is not None:
            return next(filter(is_known, spellings(model)), model)
        return self._of_workers(name)

    def aliases(self) -> Iterator[str]:
        """Yield the aliases that the settings name."""
        yield from self._aliases


def spellings(name: str) -> Iterator[str]:
    """Yield `name`, then `name` without Ollama's tag `latest`, the file's ending and the hub's
    owner, and with another tag as file names have it: `qwen2.5:0.5b` as `qwen2.5-0.5b`."""
    yield name
    bare = _without(_without(name, LATEST), GGUF)
    last = bare.rpartition("/")[2]
    tagged = (each.replace(":", "-") for each in (bare, last) if ":" in each)
    yield from (rest for rest in (bare, last, *tagged) if rest)


def _without(name: str, end: str) -> str:
    return name[: -len(end)] if name.lower().endswith(end) else name
