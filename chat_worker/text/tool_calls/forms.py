"""How a model is made to call: the grammars of calls, and tools for templates without them.

The Lark dialect is llguidance's (its docs/syntax.md): `%json {…}` inlines a JSON schema.
"""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from chat_worker.constraints.schemas import arguments_schema

# One reply calls no more often than this under a grammar; a small model might never end.
MAX_FORCED_CALLS = 8
COMPACT = {
    "whitespace_flexible": False,
    "key_separator": ": ",
    "item_separator": ", ",
    "coerce_one_of": True,
}


class Form(Enum):
    """How the calls of one model are written: (before, between, after, key of the arguments)."""

    HERMES = ("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>", "arguments")
    LLAMA = ("", "; ", "", "parameters")
    PLAIN = ("[", ", ", "]", "arguments")


def form_of(template: str, control_strings: Sequence[str]) -> Form:
    """The form that the model's template teaches; the plain one where its marks are control
    tokens, which a grammar of text cannot spell."""
    if "<tool_call>" in template and "<function=" not in template:
        return Form.PLAIN if "<tool_call>" in control_strings else Form.HERMES
    if '"parameters"' in template and "[TOOL_CALLS]" not in template:
        return Form.LLAMA
    return Form.PLAIN


def forced_calls(
    form: Form, schemas: Mapping[str, dict[str, Any]], only: str, *, parallel: bool
) -> str:
    """A grammar of one call, or of up to `MAX_FORCED_CALLS` if `parallel`.

    Args:
        schemas: JSON schemas of the arguments, by tool name.
        only: the one tool that may be called; empty: any.
    """
    chosen = {name: schemas[name] for name in ([only] if only else schemas)}
    return "\n".join(["start: calls", *_calls(form, chosen, parallel)])


def calls_or_answer(
    form: Form, schemas: Mapping[str, dict[str, Any]], answer: dict[str, Any], *, parallel: bool
) -> str:
    """A grammar of calls or of JSON that follows the schema `answer`: the model chooses."""
    layout = answer | {"x-guidance": COMPACT}
    rules = ["start: calls | answer", f"answer: %json {json.dumps(layout)}"]
    return "\n".join([*rules, *_calls(form, schemas, parallel)])


def _calls(form: Form, schemas: Mapping[str, dict[str, Any]], parallel: bool) -> list[str]:
    """The rule `calls`, and those it needs."""
    before, between, after, key = form.value
    lines = [f"call: {' | '.join(f'call{i}' for i in range(len(schemas)))}"]
    for i, (name, schema) in enumerate(schemas.items()):
        # Cut as JSON is: the lexer is greedy, and an answer may begin with the same characters.
        head = ("{", '"name"', ": ", json.dumps(name), ", ", f'"{key}"', ": ")
        lines.append(f'call{i}: {" ".join(map(json.dumps, head))} arguments{i} "}}"')
        lines.append(f"arguments{i}: %json {json.dumps(_compact(schema))}")
    more = f" ({json.dumps(between)} call){{0,{MAX_FORCED_CALLS - 1}}}" if parallel else ""
    around = [json.dumps(text) for text in (before, after)]
    calls = " ".join(part for part in (around[0], f"call{more}", around[1]) if part != '""')
    return [f"calls: {calls}", *lines]


def _compact(schema: dict[str, Any]) -> dict[str, Any]:
    return arguments_schema(schema) | {"x-guidance": COMPACT}
