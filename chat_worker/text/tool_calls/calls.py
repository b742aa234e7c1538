"""The pieces of a reply with tool calls, and the tools that it may call."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chat_worker.text.tool_calls.typed_values import typed


@dataclass(frozen=True, slots=True)
class Text:
    """Text that the client shows."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A complete call of an offered tool.

    Args:
        arguments: JSON text of an object that follows the tool's schema.
    """

    name: str
    arguments: str


Piece = Text | Call


class Tools:
    """The tools that the client offers.

    Args:
        schemas: the JSON schema of each tool's arguments, by the tool's name.
    """

    def __init__(self, schemas: Mapping[str, dict[str, Any]]) -> None:
        self.schemas = schemas

    def __contains__(self, name: object) -> bool:
        return name in self.schemas

    def may_begin_name(self, text: str) -> bool:
        """Whether `text` begins a tool's name, or begins with one."""
        return any(name.startswith(text) or text.startswith(name) for name in self.schemas)

    def properties(self, name: str) -> list[str]:
        """The names of a tool's arguments, in the order of its schema."""
        named = self.schemas[name].get("properties")
        return list(named) if isinstance(named, dict) else []

    def call(self, name: str, arguments: Any) -> Call | None:
        """A call, with its arguments converted to the types in the tool's schema.

        Args:
            arguments: as they were parsed; some notations write every value as text.
        Returns:
            None if there is no such tool, or if the arguments do not follow its schema.
        """
        if name not in self.schemas:
            return None
        # Imported with the first call: jsonschema takes a tenth of a process's start and memory.
        from chat_worker.text.tool_calls.validation import follows

        schema = self.schemas[name]
        try:
            found = _sendable(
                typed({} if arguments in (None, "", []) else arguments, schema, schema)
            )
        except (NotSendable, RecursionError):
            return None
        if not isinstance(found, dict) or not follows(found, schema):
            return None
        return Call(name, json.dumps(found, ensure_ascii=False))


class NotSendable(ValueError):
    """A value cannot be written in JSON."""


def _sendable(value: Any) -> Any:
    """`value` as any reader of JSON accepts it: numbers are finite, and texts are valid Unicode.

    Raises:
        NotSendable: it contains a number that is none.
    """
    match value:
        case float() if math.isnan(value):
            raise NotSendable
        case float():
            # Digits for a number beyond all doubles are read as infinite.
            return min(max(value, -sys.float_info.max), sys.float_info.max)
        case str():
            return value.encode("utf-8", "replace").decode()
        case list():
            return [_sendable(each) for each in value]
        case dict():
            return {_sendable(key): _sendable(each) for key, each in value.items()}
        case _:
            return value
