"""What a reply with tool calls is made of, and the tools that it may call."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chat_worker.text.tool_calls.typed_values import typed
from chat_worker.text.tool_calls.validation import follows


@dataclass(frozen=True, slots=True)
class Text:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A whole call of an offered tool.

    Args:
        arguments: JSON text of an object that follows the tool's schema.
    """

    name: str
    arguments: str


Piece = Text | Call


class Tools:
    """The offered tools.

    Args:
        schemas: JSON schemas of their arguments, by name.
    """

    def __init__(self, schemas: Mapping[str, dict[str, Any]]) -> None:
        self.schemas = schemas

    def __contains__(self, name: object) -> bool:
        return name in self.schemas

    def may_begin_name(self, text: str) -> bool:
        """Whether `text` is the beginning of a tool's name, or a name and more."""
        return any(name.startswith(text) or text.startswith(name) for name in self.schemas)

    def properties(self, name: str) -> list[str]:
        """Names of a tool's arguments, in the schema's order."""
        named = self.schemas[name].get("properties")
        return list(named) if isinstance(named, dict) else []

    def call(self, name: str, arguments: Any) -> Call | None:
        """The call that a model means, with its arguments in the schema's types.

        Args:
            arguments: as they were read; texts too where a form has nothing else.
        Returns:
            None if there is no such tool or the arguments do not follow its schema.
        """
        if name not in self.schemas:
            return None
        schema = self.schemas[name]
        found = typed({} if arguments in (None, "", []) else arguments, schema, schema)
        if not isinstance(found, dict) or not follows(found, schema):
            return None
        return Call(name, json.dumps(found, ensure_ascii=False))
