"""A model's own prompts: short texts that it expects before its inputs."""

import msgspec

from common.error_texts import ErrorText
from common.errors import InvalidRequest

# The names under which models store the prompt for a purpose of their vectors.
NAMES = {
    "query": ("query", "search_query"),
    "document": ("document", "passage", "corpus", "search_document"),
    "classification": ("classification",),
    "clustering": ("clustering",),
}


class Prompts(msgspec.Struct, frozen=True):
    by_name: dict[str, str]
    # Used if a request names no prompt; empty: no prompt.
    default_name: str = ""

    def text(self, name: str) -> str:
        """The prompt called `name`; the default prompt for "".

        Raises:
            InvalidRequest: the model has no such prompt.
        """
        wanted = name or self.default_name
        if not wanted:
            return ""
        if wanted not in self.by_name:
            known = sorted(self.by_name)
            raise InvalidRequest(
                ErrorText("prompt_name_unknown", name=wanted[:64]),
                param="prompt_name",
                suggestions=tuple(ErrorText("use_prompt", name=name) for name in known[:8]),
            )
        return self.by_name[wanted]

    def made_for(self, use: str) -> str | None:
        """The model's own prompt for a purpose in `NAMES`; None if it has none."""
        names = (name for name in NAMES.get(use, ()) if name in self.by_name)
        return self.by_name[name] if (name := next(names, "")) else None

    def query(self) -> str:
        """The prompt for a search query."""
        return self.made_for("query") or self.text("")

    def document(self) -> str:
        """The prompt for a text that is searched."""
        return self.made_for("document") or self.text("")
