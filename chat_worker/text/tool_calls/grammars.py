"""Grammars of calls in a model's own notation.

The Lark dialect is llguidance's (its docs/syntax.md): `%json {…}` inlines a JSON schema, `<[7]>` is
the token 7, and a rule with a suffix is free text up to that suffix.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from chat_worker.backend import Tokenizer
from chat_worker.constraints.schemas import MAX_STRING_CHARS, arguments_schema, enforceable
from chat_worker.text.tool_calls.notation import (
    IDS,
    KEY,
    JsonArguments,
    Notation,
    SeparateArguments,
)
from chat_worker.text.tool_calls.typed_values import kinds_of

# One reply calls no more often than this under a grammar; a small model might never end.
MAX_CALLS = 8
# Ids and numbers of calls, which differ from call to call.
_VARIABLE = re.compile("|".join([*map(re.escape, IDS), r"(?<=[:\"])\d{1,2}(?=[\"<])"]))
DEFINITIONS = ("$defs", "definitions")
QUOTES = ("'", '"')
Literal = Callable[[str], str]


class CallGrammars:
    """Grammars for one model.

    Args:
        notation: its own.
    """

    def __init__(self, notation: Notation, tokenizer: Tokenizer) -> None:
        self._notation = notation
        spellings = sorted(filter(None, tokenizer.control_strings), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, spellings))) if spellings else None
        self._tokenizer = tokenizer

    @property
    def has_raw_texts(self) -> bool:
        return isinstance(self._notation.arguments, SeparateArguments)

    @property
    def begins(self) -> str:
        """The text at which calls have begun; empty if no text tells."""
        return self._notation.opener or self._notation.head

    @property
    def begins_anywhere(self) -> bool:
        """Whether that may stand behind other text."""
        return bool(self._notation.opener)

    def forced(self, schemas: Mapping[str, dict[str, Any]], only: str, *, parallel: bool) -> str:
        """A grammar of one call, or of up to `MAX_CALLS` if `parallel`.

        Args:
            schemas: JSON schemas of the arguments, by tool name.
            only: the one tool that may be called; empty: any.
        """
        chosen = {name: schemas[name] for name in ([only] if only else schemas)}
        start = self._notation.opener + self._notation.head
        return "\n".join(["start: calls", *self._calls(start, chosen, parallel=parallel)])

    def begun(self, schemas: Mapping[str, dict[str, Any]], *, parallel: bool) -> str:
        """A grammar of what follows `begins`."""
        start = self._notation.head if self._notation.opener else ""
        return "\n".join(["start: calls", *self._calls(start, schemas, parallel=parallel)])

    def calls_or_answer(
        self, schemas: Mapping[str, dict[str, Any]], answer: dict[str, Any], *, parallel: bool
    ) -> str:
        """A grammar of calls or of JSON that follows the schema `answer`: the model chooses."""
        start = self._notation.opener + self._notation.head
        rules = ["start: calls | answer", f"answer: {_json(answer)}"]
        return "\n".join([*rules, *self._calls(start, schemas, parallel=parallel)])

    def _calls(
        self, start: str, schemas: Mapping[str, dict[str, Any]], *, parallel: bool
    ) -> Iterator[str]:
        """The rule `calls`, and those it needs."""
        notation = self._notation
        may_repeat = parallel and notation.between
        more = (
            f"({self._literal(notation.between)} call){{0,{MAX_CALLS - 1}}}" if may_repeat else ""
        )
        parts = (self._literal(start), "call", more, self._literal(notation.tail))
        yield f"calls: {' '.join(filter(None, parts))}"
        yield f"call: {' | '.join(f'call{i}' for i in range(len(schemas)))}"
        for i, (name, schema) in enumerate(schemas.items()):
            match notation.arguments:
                case JsonArguments() as form:
                    head = self._literal(json.dumps(name)[1:-1] + form.after_name)
                    yield f"call{i}: {head} arguments{i}"
                    yield f"arguments{i}: {_json(arguments_schema(schema), form)}"
                case SeparateArguments() as form:
                    yield f"call{i}: {self._literal(name)} arguments{i}_0"
                    yield from self._separate(f"arguments{i}", schema, form)

    def _separate(
        self, rule: str, schema: dict[str, Any], form: SeparateArguments
    ) -> Iterator[str]:
        """Rules for the arguments in the schema's order, those that are not demanded optional.

        The rule `…_N` goes on with argument N where none was written yet, `…_N_more` behind one.
        """
        described = arguments_schema(schema)["properties"]
        demanded = schema.get("required", [])
        for at, (name, inner) in enumerate(described.items()):
            value, lead_end, trail = self._value(f"{rule}_{at}", inner, schema, form)
            trail = trail.replace(KEY, name)
            for suffix, lead in (("", form.first), ("_more", form.later)):
                written = " ".join(
                    filter(
                        None, (self._literal(lead + name + lead_end), value, self._literal(trail))
                    )
                )
                rest = [f"{written} {rule}_{at + 1}_more"]
                if name not in demanded:
                    rest.append(f"{rule}_{at + 1}{suffix}")
                yield f"{rule}_{at}{suffix}: {' | '.join(rest)}"
            yield from self._value_rules(f"{rule}_{at}", inner, schema, form, name)
        nothing = '""'
        yield f"{rule}_{len(described)}: {self._literal(form.empty) or nothing}"
        yield f"{rule}_{len(described)}_more: {nothing}"

    def _value(
        self, rule: str, schema: Any, root: dict[str, Any], form: SeparateArguments
    ) -> tuple[str, str, str]:
        """The rule of a value, what stands before it, and what behind it."""
        if not _is_text(schema, root):
            return f"{rule}_value", form.before_value, form.after_value
        if _texts(schema) is not None or form.after_text in QUOTES:
            return f"{rule}_value", form.before_text, form.after_text
        # The rule of free text takes what ends it.
        return f"{rule}_value", form.before_text, ""

    def _value_rules(
        self, rule: str, schema: Any, root: dict[str, Any], form: SeparateArguments, name: str
    ) -> Iterator[str]:
        if not _is_text(schema, root):
            yield f"{rule}_value: {_json(_rooted(schema, root))}"
        elif (texts := _texts(schema)) is not None:
            yield f"{rule}_value: {' | '.join(self._literal(text) for text in texts)}"
        elif form.after_text in QUOTES:
            one = rf"([^{form.after_text}\\\n]|\\[nt{form.after_text}\\])"
            yield f"{rule}_value: /{one}{_times(schema)}/"
        elif self._has_control(form.after_text):
            yield f"{rule}_value: {rule}_text {self._literal(form.after_text.replace(KEY, name))}"
            yield f"{rule}_text: {_free_text(schema)}"
        else:
            ending = json.dumps(form.after_text.replace(KEY, name), ensure_ascii=False)
            yield f"{rule}_value[suffix={ending}]: {_free_text(schema)}"

    def _has_control(self, text: str) -> bool:
        return self._control is not None and self._control.search(text) is not None

    def _literal(self, text: str) -> str:
        """`text` as Lark, with control tokens as tokens and ids of calls as any id."""
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


def _quoted(text: str) -> Iterator[str]:
    if text:
        yield json.dumps(text, ensure_ascii=False)


def _variable(text: str) -> str:
    if text.isdecimal():
        return "/[0-9]{1,2}/"
    return "/[A-Za-z0-9]{9}/" if len(text) == 9 and text.isalnum() else "/[A-Za-z0-9_]{1,16}/"


def _json(schema: Any, form: JsonArguments | None = None) -> str:
    layout = {
        "whitespace_flexible": False,
        "key_separator": form.key_separator if form else ": ",
        "item_separator": form.item_separator if form else ", ",
        "coerce_one_of": True,
    }
    return f"%json {json.dumps(schema | {'x-guidance': layout})}"


def _rooted(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """An inner schema with what its references mean."""
    definitions: dict[str, Any] = {key: root[key] for key in DEFINITIONS if key in root}
    return enforceable(definitions | (schema if isinstance(schema, dict) else {})).schema


def _is_text(schema: Any, root: dict[str, Any]) -> bool:
    """Whether a value is written as text: so is all that may be one."""
    kinds = kinds_of(schema, root)
    return not kinds or "string" in kinds


def _free_text(schema: Any) -> str:
    return f"/(?s:.{_times(schema)})/"


def _times(schema: Any) -> str:
    """How many characters a text may have, as a regular expression says it."""
    bounds = schema if isinstance(schema, dict) else {}
    least, most = bounds.get("minLength", 0), bounds.get("maxLength", MAX_STRING_CHARS)
    are_numbers = isinstance(least, int) and isinstance(most, int) and 0 <= least <= most
    return f"{{{least},{most}}}" if are_numbers else "*"


def _texts(schema: Any) -> list[str] | None:
    """The texts that a schema lists, if it lists any."""
    if not isinstance(schema, dict):
        return None
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list):
        return None
    texts = [value for value in listed if isinstance(value, str) and value]
    return texts or None
