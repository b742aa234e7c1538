"""A model's own prompts: short texts that it wants before its inputs."""

import msgspec

from protos.errors import InvalidRequest

# Names under which models keep the prompt for what is searched through.
DOCUMENT_NAMES = ("document", "passage", "corpus")


class Prompts(msgspec.Struct, frozen=True):
    by_name: dict[str, str]
    # Used when a request names none; empty: no prompt.
    default_name: str = ""

    def text(self, name: str) -> str:
        """The prompt called `name`; the default one for "".

        Raises:
            InvalidRequest: the model has no such prompt.
        """
        wanted = name or self.default_name
        if not wanted:
            return ""
        if wanted not in self.by_name:
            known = sorted(self.by_name)
            raise InvalidRequest(
                f"the model has no prompt {wanted[:64]!r}",
                param="prompt_name",
                suggestions=tuple(f"use the prompt {name!r}" for name in known[:8]),
            )
        return self.by_name[wanted]

    def query(self) -> str:
        """The prompt for a search query, as the model's authors meant it."""
        return self.by_name.get("query", self.text(""))

    def document(self) -> str:
        """The prompt for a text that is searched."""
        names = (name for name in DOCUMENT_NAMES if name in self.by_name)
        return self.by_name[name] if (name := next(names, "")) else self.text("")
