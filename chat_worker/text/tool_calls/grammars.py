"""Grammars that hold a model to tool calls in its own notation.

They are written in llguidance's variant of Lark (see docs/syntax.md there): `%json {…}` stands for
JSON that follows a schema, `<[7]>` is the token with id 7, and a rule with a suffix is free text
that ends with that suffix.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chat_worker.backend import Tokenizer
from chat_worker.constraints.calls_once_begun import Beginnings
from chat_worker.constraints.compile import json_layout
from chat_worker.constraints.schemas import MAX_STRING_CHARS, arguments_schema, enforceable
from chat_worker.text.tool_calls.notation import (
    IDS,
    KEY,
    JsonArguments,
    Notation,
    SeparateArguments,
)
from chat_worker.text.tool_calls.typed_values import kinds_of

# The most calls in one reply under a grammar; without a limit, a small model might never end.
MAX_CALLS = 8
# The ids and numbers of calls, which differ from call to call.
_VARIABLE = re.compile("|".join([*map(re.escape, IDS), r"(?<=[:\"])\d{1,2}(?=[\"<])"]))
DEFINITIONS = ("$defs", "definitions")
QUOTES = ("'", '"')
NOTHING = '""'


@dataclass(frozen=True)
class _Value:
    """How the value of one argument is written.

    Args:
        before: text between the argument's key and its value.
        rules: the value's rule, and those that it uses.
        after: text that ends the argument, unless the rule includes it.
    """

    before: str
    rules: list[str]
    after: str


class CallGrammars:
    """Makes grammars for one model.

    Args:
        notation: the notation in which the model writes calls.
    """

    def __init__(self, notation: Notation, tokenizer: Tokenizer) -> None:
        self._notation = notation
        spellings = sorted(filter(None, tokenizer.control_strings), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, spellings))) if spellings else None
        self._tokenizer = tokenizer

    @property
    def has_raw_texts(self) -> bool:
        """Whether texts among the arguments are written without JSON's quotes."""
        return isinstance(self._notation.arguments, SeparateArguments)

    def beginnings(self, names: Iterable[str]) -> Beginnings:
        """Return the texts that begin calls of the tools `names`, for the grammar of `forced`.

        They are empty if the notation has none.
        """
        notation = self._notation
        for mark in map(str.encode, (notation.opener, notation.head)):
            if mark:
                whole = {mark: mark}
                return Beginnings(anywhere=whole) if notation.opener else Beginnings(whole)
        arguments = notation.arguments
        if not isinstance(arguments, JsonArguments) or not arguments.after_name:
            return Beginnings()
        # The tool's name alone begins a call, and a mark only a further one.
        calls = {name: f"{name}{arguments.after_name}".encode() for name in names}
        mark = notation.between.encode()
        further = {mark + call: call for call in calls.values()} if mark else {}
        return Beginnings({call: call for call in calls.values()}, further)

    def forced(self, schemas: Mapping[str, dict[str, Any]], only: str, *, parallel: bool) -> str:
        """Return a grammar of one call, or of up to `MAX_CALLS` if `parallel`.

        Args:
            schemas: JSON schemas of the arguments, by tool name.
            only: the only tool that may be called; if it is empty, any tool may be.
        """
        chosen = {name: schemas[name] for name in ([only] if only else schemas)}
        start = self._notation.opener + self._notation.head
        return "\n".join(["start: calls", *self._rules(start, chosen, parallel=parallel)])

    def calls_or_answer(
        self, schemas: Mapping[str, dict[str, Any]], answer: dict[str, Any], *, parallel: bool
    ) -> str:
        """Return a grammar of either calls or JSON that follows the schema `answer`."""
        start = self._notation.opener + self._notation.head
        rules = ["start: calls | answer", f"answer: {_json(answer)}"]
        return "\n".join([*rules, *self._rules(start, schemas, parallel=parallel)])

    def _rules(
        self, start: str, schemas: Mapping[str, dict[str, Any]], *, parallel: bool
    ) -> Iterator[str]:
        """Yield the rule `calls` and the rules that it uses."""
        notation = self._notation
        more = ""
        if parallel and notation.between:
            more = f"({self._literal(notation.between)} call){{0,{MAX_CALLS - 1}}}"
        tail = self._literal(notation.tail)
        yield f"calls: {_sequence(self._literal(start), 'call', more, tail)}"
        yield f"call: {' | '.join(f'call{i}' for i in range(len(schemas)))}"
        for i, (name, schema) in enumerate(schemas.items()):
            match notation.arguments:
                case JsonArguments() as arguments:
                    head = self._literal(json.dumps(name)[1:-1] + arguments.after_name)
                    yield f"call{i}: {head} arguments{i}"
                    yield f"arguments{i}: {_json(arguments_schema(schema), arguments)}"
                case SeparateArguments() as arguments:
                    yield f"call{i}: {self._literal(name)} arguments{i}_0"
                    yield from self._separate_rules(f"arguments{i}", schema, arguments)

    def _separate_rules(
        self, rule: str, schema: dict[str, Any], notation: SeparateArguments
    ) -> Iterator[str]:
        """Yield rules for arguments in the order of the schema; optional ones may be left out.

        The rule `…_N` continues with argument N if no argument was written yet, and `…_N_more` if
        one was.
        """
        properties = arguments_schema(schema)["properties"]
        required = schema.get("required", [])
        for number, (name, inner) in enumerate(properties.items()):
            value = self._value(f"{rule}_{number}_value", name, inner, schema, notation)
            yield from value.rules
            for suffix, before_key in (("", notation.first), ("_more", notation.later)):
                key = self._literal(before_key + name + value.before)
                parts = (key, f"{rule}_{number}_value", self._literal(value.after))
                options = [f"{_sequence(*parts)} {rule}_{number + 1}_more"]
                if name not in required:
                    options.append(f"{rule}_{number + 1}{suffix}")
                yield f"{rule}_{number}{suffix}: {' | '.join(options)}"
        yield f"{rule}_{len(properties)}: {self._literal(notation.empty) or NOTHING}"
        yield f"{rule}_{len(properties)}_more: {NOTHING}"

    def _value(
        self,
        rule: str,
        name: str,
        schema: Any,
        root: dict[str, Any],
        notation: SeparateArguments,
    ) -> _Value:
        """Return how the value of one argument is written, and the rules for it.

        Args:
            rule: the name of the value's rule.
            name: the name of the argument.
            root: the schema in which references are resolved.
        """
        before, end = notation.before_text, notation.after_text
        after = end.replace(KEY, name)
        if not _is_text(schema, root):
            value_after = notation.after_value.replace(KEY, name)
            json_rule = f"{rule}: {_json(_with_definitions(schema, root))}"
            return _Value(notation.before_value, [json_rule], value_after)
        if (texts := _listed_texts(schema)) is not None:
            return _Value(before, [f"{rule}: {' | '.join(map(self._literal, texts))}"], after)
        length = _length(schema)
        if end in QUOTES:
            character = rf"([^{end}\\\n]|\\[nt{end}\\])"
            return _Value(before, [f"{rule}: /{character}{length}/"], after)
        # A rule of free text includes the text that ends it.
        free_text = f"/(?s:.{length})/"
        if self._has_control(end):
            rules = [f"{rule}: {rule}_text {self._literal(after)}", f"{rule}_text: {free_text}"]
        else:
            rules = [f"{rule}[suffix={json.dumps(after, ensure_ascii=False)}]: {free_text}"]
        return _Value(before, rules, "")

    def _has_control(self, text: str) -> bool:
        return self._control is not None and self._control.search(text) is not None

    def _literal(self, text: str) -> str:
        """Return `text` in Lark, with tokens for control tokens and any id for the id of a call."""
        parts: list[str] = []
        at = 0
        for found in _VARIABLE.finditer(text):
            parts += self._plain(text[at : found.start()])
            parts.append(_variable(found[0]))
            at = found.end()
        return " ".join([*parts, *self._plain(text[at:])])

    def _plain(self, text: str) -> Iterator[str]:
        at = 0
        for found in self._control.finditer(text) if self._control else ():
            yield from _quoted(text[at : found.start()])
            yield from (
                f"<[{id_}]>" for id_ in self._tokenizer.encode(found[0], parse_control=True)
            )
            at = found.end()
        yield from _quoted(text[at:])


def _sequence(*parts: str) -> str:
    return " ".join(filter(None, parts))


def _quoted(text: str) -> Iterator[str]:
    if text:
        yield json.dumps(text, ensure_ascii=False)


def _variable(text: str) -> str:
    if text.isdecimal():
        return "/[0-9]{1,2}/"
    return "/[A-Za-z0-9]{9}/" if len(text) == 9 and text.isalnum() else "/[A-Za-z0-9_]{1,16}/"


def _json(schema: Any, notation: JsonArguments | None = None) -> str:
    layout = json_layout()
    if notation is not None:
        layout = json_layout(notation.key_separator, notation.item_separator)
    return f"%json {json.dumps(schema | {'x-guidance': layout})}"


def _with_definitions(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Return an inner schema with the definitions of `root`, to which its references lead."""
    definitions: dict[str, Any] = {key: root[key] for key in DEFINITIONS if key in root}
    return enforceable(definitions | (schema if isinstance(schema, dict) else {})).schema


def _is_text(schema: Any, root: dict[str, Any]) -> bool:
    """Return whether a value is written as text, because its schema allows a string."""
    kinds = kinds_of(schema, root)
    return not kinds or "string" in kinds


def _length(schema: Any) -> str:
    """Return a regular expression's quantifier for the number of characters of a text."""
    bounds = schema if isinstance(schema, dict) else {}
    least, most = bounds.get("minLength", 0), bounds.get("maxLength", MAX_STRING_CHARS)
    are_numbers = isinstance(least, int) and isinstance(most, int) and 0 <= least <= most
    return f"{{{least},{most}}}" if are_numbers else "*"


def _listed_texts(schema: Any) -> list[str] | None:
    """Return the texts that a schema lists with `const` or `enum`; None if it lists none."""
    if not isinstance(schema, dict):
        return None
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list):
        return None
    texts = [value for value in listed if isinstance(value, str) and value]
    return texts or None
