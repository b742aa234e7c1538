"""Readers of one call each, fed character by character, one for each form that calls have.

A reader says which tool is called as soon as that is certain, then passes the arguments on as they
come. Until then it can fail without anything having been said.
"""

import json
import string
from collections.abc import Collection, Mapping
from enum import Enum, auto
from typing import Any, Protocol

MAX_NAME_CHARS = 256
# Arguments that come before the name, and values that are converted, are held back up to here.
MAX_HELD_CHARS = 1024 * 1024
ARGUMENT_KEYS = frozenset({"arguments", "parameters"})
CALL_KEYS = ARGUMENT_KEYS | {"name", "id", "type"}
NAME_CHARS = frozenset(string.ascii_letters + string.digits + "_.-")


class Outcome(Enum):
    MORE = auto()
    DONE = auto()
    BAD = auto()


class CallParser(Protocol):
    # Set once it is certain, and never changed.
    name: str

    def feed(self, character: str) -> Outcome:
        """Read on. After DONE or BAD it is not fed again."""

    def take(self) -> str:
        """Arguments read since the last time, as JSON text; only once `name` is set."""


class JsonSpan:
    """Finds the end of a JSON object, array or string whose first character it is fed."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def ends_with(self, character: str) -> bool:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._in_string = False
                return self._depth == 0
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            return self._depth <= 0
        return False


class _At(Enum):
    KEY = auto()
    IN_KEY = auto()
    COLON = auto()
    VALUE = auto()
    IN_VALUE = auto()
    COMMA = auto()


class JsonCallParser:
    """`{"name": …, "arguments": {…}}`, in any order, "parameters" for "arguments" too.

    Fed from behind the opening brace.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.name = ""
        self._names = names
        self._at = _At.KEY
        self._key = ""
        self._value: list[str] = []
        self._n_held = 0
        self._span = JsonSpan()
        self._is_plain = False  # a number, true, false or null
        self._arguments: list[str] = []
        self._has_arguments = False
        self._streams = False

    def feed(self, character: str) -> Outcome:
        match self._at:
            case _At.IN_KEY | _At.IN_VALUE:
                return self._inside(character)
            case _ if character.isspace():
                return Outcome.MORE
            case _At.KEY if character == '"':
                self._begin(_At.IN_KEY, character)
            case _At.COLON if character == ":":
                self._at = _At.VALUE
            case _At.VALUE:
                self._streams = bool(self.name and self._key in ARGUMENT_KEYS and character in "{")
                self._begin(_At.IN_VALUE, character)
            case _At.COMMA if character == ",":
                self._at = _At.KEY
            case _At.KEY | _At.COMMA if character == "}":
                return self._end()
            case _:
                return Outcome.BAD
        return Outcome.MORE

    def take(self) -> str:
        taken = "".join(self._arguments)
        self._arguments = []
        return taken

    def _begin(self, at: _At, character: str) -> None:
        self._at = at
        self._span = JsonSpan()
        self._value = []
        self._is_plain = character not in '{["'
        if not self._is_plain:
            self._span.ends_with(character)
        self._hold(character)

    def _inside(self, character: str) -> Outcome:
        if self._is_plain and character in ",}":
            if not self._close():
                return Outcome.BAD
            return self.feed(character)
        if self._n_held > MAX_HELD_CHARS or (
            self._at is _At.IN_KEY and len(self._value) > MAX_NAME_CHARS
        ):
            return Outcome.BAD
        self._hold(character)
        if not self._is_plain and self._span.ends_with(character):
            return Outcome.MORE if self._close() else Outcome.BAD
        return Outcome.MORE

    def _hold(self, character: str) -> None:
        if self._streams:
            self._arguments.append(character)
        else:
            self._value.append(character)
            self._n_held += 1

    def _close(self) -> bool:
        """A key or a value is complete; False if it cannot be part of a call."""
        was_key, streamed = self._at is _At.IN_KEY, self._streams
        self._at = _At.COLON if was_key else _At.COMMA
        self._streams = False
        if streamed:
            self._has_arguments = True
            return True
        try:
            value = json.loads("".join(self._value))
        except (ValueError, RecursionError):
            return False
        if was_key:
            self._key = value
            return value in CALL_KEYS
        if self._key == "name":
            if not isinstance(value, str) or value not in self._names:
                return False
            self.name = value
        elif self._key in ARGUMENT_KEYS:
            return self._keep_arguments(value)
        return True

    def _keep_arguments(self, value: Any) -> bool:
        text = "".join(self._value)
        if isinstance(value, str):
            # Some models write the arguments as a string that holds JSON.
            text = value
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return False
        if not isinstance(value, dict):
            return False
        self._arguments = [text]
        self._has_arguments = True
        return True

    def _end(self) -> Outcome:
        if not self.name:
            return Outcome.BAD
        if not self._has_arguments:
            self._arguments = ["{}"]
        return Outcome.DONE


class NamedCallParser:
    """`name[ARGS]{…}` or `name{…}`, as newer Mistral models write it."""

    def __init__(self, names: Collection[str]) -> None:
        self.name = ""
        self._names = names
        self._head = ""
        self._span = JsonSpan()
        self._arguments: list[str] = []

    def feed(self, character: str) -> Outcome:
        if not self.name:
            if character != "{":
                self._head += character
                is_name = "[" in self._head or character in NAME_CHARS
                return Outcome.MORE if is_name and self._is_short() else Outcome.BAD
            # Between them may stand "[CALL_ID]…".
            name = self._head.split("[")[0].strip()
            if name not in self._names:
                return Outcome.BAD
            self.name = name
        self._arguments.append(character)
        return Outcome.DONE if self._span.ends_with(character) else Outcome.MORE

    def take(self) -> str:
        taken = "".join(self._arguments)
        self._arguments = []
        return taken

    def _is_short(self) -> bool:
        return len(self._head) <= MAX_NAME_CHARS


class XmlCallParser:
    """`<function=NAME><parameter=KEY>VALUE</parameter>…</function>`, as Qwen3-Coder writes it.

    Args:
        schemas: by tool name, for the types of the values, which are written without quotes.
    """

    HEAD = "<function="
    PARAMETER = "<parameter="
    PARAMETER_END = "</parameter>"
    END = "</function>"

    def __init__(self, schemas: Mapping[str, dict[str, Any]]) -> None:
        self.name = ""
        self._schemas = schemas
        self._key: str | None = None
        self._held = ""
        self._arguments = ""
        self._n_values = 0

    def feed(self, character: str) -> Outcome:
        self._held += character
        if self._key is not None:
            return self._in_value(character)
        if not self.name and not self.HEAD.startswith(self._held[: len(self.HEAD)]):
            return Outcome.BAD
        if character != ">":
            too_long = len(self._held) > MAX_NAME_CHARS + len(self.PARAMETER)
            return Outcome.BAD if too_long else Outcome.MORE
        tag, self._held = self._held.strip(), ""
        if not self.name:
            return self._begin(tag)
        if tag == self.END:
            self._arguments += "}" if self._n_values else "{}"
            return Outcome.DONE
        if not tag.startswith(self.PARAMETER):
            return Outcome.BAD
        self._key = tag[len(self.PARAMETER) : -1].strip()
        return Outcome.MORE

    def take(self) -> str:
        taken, self._arguments = self._arguments, ""
        return taken

    def _begin(self, tag: str) -> Outcome:
        name = tag[len(self.HEAD) : -1].strip()
        if not tag.startswith(self.HEAD) or name not in self._schemas:
            return Outcome.BAD
        self.name = name
        return Outcome.MORE

    def _in_value(self, character: str) -> Outcome:
        if character != ">" or not self._held.endswith(self.PARAMETER_END):
            return Outcome.BAD if len(self._held) > MAX_HELD_CHARS else Outcome.MORE
        value = self._held[: -len(self.PARAMETER_END)].removeprefix("\n").removesuffix("\n")
        assert self._key is not None, "called inside of a value"
        lead = ", " if self._n_values else "{"
        self._arguments += f"{lead}{json.dumps(self._key)}: {self._typed(self._key, value)}"
        self._n_values += 1
        self._key, self._held = None, ""
        return Outcome.MORE

    def _typed(self, key: str, value: str) -> str:
        """The value as JSON: of the type that the schema says, else text."""
        properties = self._schemas[self.name].get("properties")
        schema = properties.get(key) if isinstance(properties, dict) else None
        if isinstance(schema, dict) and schema.get("type") != "string":
            try:
                return json.dumps(json.loads(value), ensure_ascii=False)
            except (ValueError, RecursionError):
                pass
        return json.dumps(value, ensure_ascii=False)
