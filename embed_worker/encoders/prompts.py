"""A model's own prompts: short texts that it expects before its inputs."""

import re

import msgspec

from common.error_texts import ErrorText
from common.errors import InvalidRequest

# Names under which models keep the prompt for a use of their vectors, as `_folded` writes them.
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
# Of a search.
OTHER_SIDE = {"query": "document", "document": "query"}


class Prompts(msgspec.Struct, frozen=True):
    """
    Args:
        by_name: an empty one says that nothing goes before the inputs.
        default_name: used when a request names none; empty: no prompt.
    """

    by_name: dict[str, str]
    default_name: str = ""

    def text(self, name: str) -> str:
        """The prompt called `name`, in capitals or not; the default one for "".

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
        """The prompt that the model's authors made for a use in `NAMES`; None if they did not.

        An empty one gives way to another: newer sentence-transformers add empty ones called
        "query" and "document" to all that they save.
        """
        names = NAMES.get(use, ())
        found = {folded: text for own, text in self.by_name.items() if (folded := _folded(own))}
        made = [found[name] for name in names if name in found]
        return next((text for text in made if text), "" if made else None)

    def text_for(self, use: str) -> str:
        """The prompt for a use in `NAMES`: its own, or the default one.

        That of queries is not for documents, nor the other way about.
        """
        made = self.made_for(use)
        if made is not None:
            return made
        other = NAMES.get(OTHER_SIDE.get(use, ""), ())
        return "" if _folded(self.default_name) in other else self.text("")

    def query(self) -> str:
        """The prompt for a search query."""
        return self.text_for("query")

    def document(self) -> str:
        """The prompt for a text that is searched."""
        return self.text_for("document")


def _folded(name: str) -> str:
    """Models write "Clustering", "Retrieval-query" and "retrieval.passage"."""
    return re.sub(r"[^a-z0-9]+", "_", name.casefold())
