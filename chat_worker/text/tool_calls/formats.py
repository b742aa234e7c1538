"""How a model is made to call: the grammars of calls, and tools for templates without them.

The Lark dialect is llguidance's (its docs/syntax.md): `%json {…}` inlines a JSON schema.
"""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from chat_worker.constraints.schemas import closed

# One reply calls no more often than this under a grammar; a small model might never end.
MAX_FORCED_CALLS = 8
COMPACT = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}


class ToolCallFormat(Enum):
    """How the calls of one model are written: (before, between, after, key of the arguments)."""

    HERMES = ("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>", "arguments")
    LLAMA = ("", "; ", "", "parameters")
    PLAIN = ("[", ", ", "]", "arguments")


def format_of(template: str, control_strings: Sequence[str]) -> ToolCallFormat:
    """The form that the model's template teaches; the plain one where its marks are control
    tokens, which a grammar of text cannot spell."""
    if "<tool_call>" in template and "<function=" not in template:
        return ToolCallFormat.PLAIN if "<tool_call>" in control_strings else ToolCallFormat.HERMES
    if '"parameters"' in template and "[TOOL_CALLS]" not in template:
        return ToolCallFormat.LLAMA
    return ToolCallFormat.PLAIN


def renders_tools(template: str) -> bool:
    """Whether the model's template shows tools to the model."""
    return "tools" in template


def forced_calls(
    call_format: ToolCallFormat, schemas: Mapping[str, dict[str, Any]], only: str, *, parallel: bool
) -> str:
    """A grammar of one call, or of up to `MAX_FORCED_CALLS` if `parallel`.

    Args:
        schemas: JSON schemas of the arguments, by tool name.
        only: the one tool that may be called; empty: any.
    """
    chosen = {name: schemas[name] for name in ([only] if only else schemas)}
    return "\n".join(["start: calls", *_calls(call_format, chosen, parallel)])


def calls_or_answer(
    call_format: ToolCallFormat,
    schemas: Mapping[str, dict[str, Any]],
    answer: dict[str, Any],
    *,
    parallel: bool,
) -> str:
    """A grammar of calls or of JSON that follows the schema `answer`: the model chooses."""
    layout = answer | {"x-guidance": COMPACT}
    rules = ["start: calls | answer", f"answer: %json {json.dumps(layout)}"]
    return "\n".join([*rules, *_calls(call_format, schemas, parallel)])


def tools_prompt(tools: Sequence[Mapping[str, Any]]) -> str:
    """The tools as text for a model whose template does not show them."""
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        "You can call these tools:\n"
        f"{lines}\n"
        "To call one, answer with nothing but JSON of this form:\n"
        '[{"name": "<tool>", "arguments": {<arguments>}}]'
    )


def _calls(
    call_format: ToolCallFormat, schemas: Mapping[str, dict[str, Any]], parallel: bool
) -> list[str]:
    """The rule `calls`, and those it needs."""
    before, between, after, key = call_format.value
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
    """A schema of an object in any case: arguments are one."""
    return closed(schema) | {"type": "object", "x-guidance": COMPACT}
