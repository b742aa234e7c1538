"""A model's own prompts: short texts that it expects before its inputs."""

import re

import msgspec

from common.error_texts import ErrorText
from common.errors import InvalidRequest

# The names that models give to the prompts for each use of their vectors, in `_folded`'s spelling.
NAMES = {
    "query": ("query", "search_query", "retrieval_query"),
    "document": (
        "document",
        "passage",
        "corpus",
        "search_document",
        "retrieval_document",
        "retrieval_passage",
    ),
    "classification": ("classification",),
    "clustering": ("clustering", "separation"),
}
# The two sides of a search.
OTHER_SIDE = {"query": "document", "document": "query"}


class Prompts(msgspec.Struct, frozen=True):
    """The prompts of one model.

    Args:
        by_name: the prompts by name; an empty prompt puts nothing before the inputs.
        default_name: the prompt for requests that name none; empty if they get no prompt.
    """

    by_name: dict[str, str]
    default_name: str = ""

    def text(self, name: str) -> str:
        """Return the prompt called `name` in any spelling; the default one if `name` is empty.

        Raises:
            InvalidRequest: the model has no such prompt.
        """
        wanted = name or self.default_name
        if not wanted:
            return ""
        if wanted in self.by_name:
            return self.by_name[wanted]
        alike = [own for own in self.by_name if _folded(own) == _folded(wanted)]
        if len(alike) == 1:
            return self.by_name[alike[0]]
        raise InvalidRequest(
            ErrorText("prompt_name_unknown", name=wanted[:64]),
            param="prompt_name",
            suggestions=tuple(
                ErrorText("use_prompt", name=own) for own in sorted(self.by_name)[:8]
            ),
        )

    def made_for(self, use: str) -> str | None:
        """Return the prompt that the model's authors made for a use in `NAMES`; None without one.

        An empty prompt counts only if there is no other, because newer versions of
        sentence-transformers add empty prompts "query" and "document" to every model they save.
        """
        names = NAMES.get(use, ())
        found = {folded: text for own, text in self.by_name.items() if (folded := _folded(own))}
        made = [found[name] for name in names if name in found]
        return next((text for text in made if text), "" if made else None)

    def text_for(self, use: str) -> str:
        """Return the prompt for a use in `NAMES`, which is its own or else the default one.

        A default prompt for queries is not used for documents, nor one for documents for queries.
        """
        made = self.made_for(use)
        if made is not None:
            return made
        other = NAMES.get(OTHER_SIDE.get(use, ""), ())
        return "" if _folded(self.default_name) in other else self.text("")

    def query(self) -> str:
        """Return the prompt for a search query."""
        return self.text_for("query")

    def document(self) -> str:
        """Return the prompt for a text that is searched."""
        return self.text_for("document")


def _folded(name: str) -> str:
    """Return a name in one spelling: models write "Retrieval-query" and "retrieval.passage"."""
    return re.sub(r"[^a-z0-9]+", "_", name.casefold())
