"""Calls as models write them: what was clearly meant is read, everything else stays text."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_worker.pipe_messages import Conversation, Message, Tool, ToolCall
from chat_worker.text.template import ChatTemplate
from tests.real_templates import real_templates
from tests.unit.chat_worker.test_tool_calls import read

WRITE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "content": {"type": "string"},
        "mode": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
        "any": {},
    },
    "$defs": {"tag": {"type": "string"}},
    "required": ["path"],
}
SCHEMAS: dict[str, dict[str, Any]] = {"now": {"type": "object", "properties": {}}, "write": WRITE}
A = {"path": "a"}

# What a model wrote, and what it clearly meant.
MEANT: dict[str, tuple[str, list[tuple[str, Any]]]] = {
    "function tag with json": ('<function=write>{"path": "a"}</function>', [("write", A)]),
    "arguments null": ('<tool_call>{"name": "now", "arguments": null}</tool_call>', [("now", {})]),
    "arguments empty": ('<tool_call>{"name": "now", "arguments": ""}</tool_call>', [("now", {})]),
    "arguments a list": ('<tool_call>{"name": "now", "arguments": []}</tool_call>', [("now", {})]),
    "another key": (
        '<tool_call>{"name": "write", "args": {"path": "a"}}</tool_call>',
        [("write", A)],
    ),
    "an extra key": (
        '<tool_call>{"name": "write", "reason": "x", "arguments": {"path": "a"}}</tool_call>',
        [("write", A)],
    ),
    "an extra key first": (
        '<tool_call>{"id": 7, "name": "write", "arguments": {"path": "a"}}</tool_call>',
        [("write", A)],
    ),
    "a brace missing": (
        '<tool_call>{"name": "write", "arguments": {"path": "a"}</tool_call>',
        [("write", A)],
    ),
    "a brace missing at the end": ('{"name": "write", "arguments": {"path": "a"}', [("write", A)]),
    "a brace too many": (
        '<tool_call>{"name": "write", "arguments": {"path": "a"}}}</tool_call>',
        [("write", A)],
    ),
    "raw line breaks": (
        '<tool_call>{"name": "write", "arguments": {"path": "a", "content": "x\ny"}}</tool_call>',
        [("write", {"path": "a", "content": "x\ny"})],
    ),
    "Python's words": (
        "<tool_call>{'name': 'write', 'arguments': {'path': 'a', 'mode': None}}</tool_call>",
        [("write", {"path": "a", "mode": None})],
    ),
    "no end of a function": (
        "<tool_call>\n<function=write>\n<parameter=path>\na\n</parameter>\n</tool_call>",
        [("write", A)],
    ),
    "an end tag in a value": (
        "<tool_call>\n<function=write>\n<parameter=path>\na\n</parameter>\n<parameter=content>\n"
        "use </parameter> and </function> tags\n</parameter>\n</function>\n</tool_call>",
        [("write", {"path": "a", "content": "use </parameter> and </function> tags"})],
    ),
    "typed by the schema": (
        "<function=write><parameter=path>7</parameter><parameter=mode>7</parameter>"
        '<parameter=tags>["x", 1]</parameter><parameter=any>{"b": true}</parameter></function>',
        [("write", {"path": "7", "mode": 7, "tags": ["x", "1"], "any": {"b": True}})],
    ),
    "null where it may be": (
        "<function=write><parameter=path>a</parameter><parameter=mode>null</parameter></function>",
        [("write", {"path": "a", "mode": None})],
    ),
    "several objects": (
        '{"name": "now", "parameters": {}}; {"name": "write", "parameters": {"path": "a"}}',
        [("now", {}), ("write", A)],
    ),
    "OpenAI's own form": (
        '{"type": "function", "function": {"name": "write", "arguments": "{\\"path\\": \\"a\\"}"}}',
        [("write", A)],
    ),
    "in a list": ('[{"name": "write", "arguments": {"path": "a"}}]', [("write", A)]),
    "what Python wants escaped": (
        "[write(path='a', content='x\0\r\ny')]",
        [("write", A | {"content": "x\0\r\ny"})],
    ),
    "a number beyond all doubles": (
        '<tool_call>{"name": "write", "arguments": {"path": "a", "any": [1E999, -1E999]}}'
        "</tool_call>",
        [("write", A | {"any": [sys.float_info.max, -sys.float_info.max]})],
    ),
    "half of a surrogate pair": (
        '<tool_call>{"name": "write", "arguments": {"path": "a", "content": "\\ud83d!"}}'
        "</tool_call>",
        [("write", A | {"content": "?!"})],
    ),
    "pythonic": ('[write(path="a"), now()]', [("write", A), ("now", {})]),
    "pythonic by position": ('<|python_tag|>write("a")', [("write", A)]),
}


@pytest.mark.parametrize("case", MEANT)
def test_what_was_clearly_meant_is_a_call(case: str) -> None:
    text, calls = MEANT[case]
    assert read([text], SCHEMAS) == (calls, "")
    assert read(list(text), SCHEMAS) == (calls, "")


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "write", "arguments": {"content": "no path"}}</tool_call>',
        '<tool_call>{"name": "write", "arguments": {"path": ["a"]',
        '<tool_call>{"name": "write", "arguments": {"path": "a", "mode": "much"}}</tool_call>',
        '<tool_call>{"name": "write", "arguments": {"path": "a", "content": "cut o',
        "<function=write><parameter=content>x</parameter></function>",
        '[{"name": "now"}, {"name": "rm"}]',
        '<tool_call>{"name": "write", "arguments": {"path": "a", "any": NaN}}</tool_call>',
        "[write(path=open('x'))]",
        "[now(), rm()]",
        ">>>now we know",
        "write{",
        "I write[ARGS] like this",
    ],
)
def test_what_is_no_valid_call_is_text_untouched(text: str) -> None:
    assert read([text], SCHEMAS) == ([], text)
    assert read(list(text), SCHEMAS) == ([], text)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([text for text, _ in MEANT.values()]),
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from("{}[]<>/=\"'\\ ;,x")), max_size=3),
    st.data(),
)
def test_damage_never_makes_an_invalid_call_and_chunking_changes_nothing(
    text: str, damage: list[tuple[int, str]], data: st.DataObject
) -> None:
    for at, character in damage:
        text = text[: at % len(text)] + character + text[at % len(text) + 1 :]
    cut = data.draw(st.integers(0, len(text)))
    found = read([text], SCHEMAS)
    assert found == read([text[:cut], text[cut:]], SCHEMAS) == read(list(text), SCHEMAS)
    for name, arguments in found[0]:
        assert name in SCHEMAS
        assert name == "now" or isinstance(arguments["path"], str)
    if not found[0]:
        assert found[1] == text


SPECIAL = {"bos_token": "", "eos_token": ""}


def test_what_every_real_template_writes_is_read_back() -> None:
    arguments = {"path": "a/b", "content": 'x\n  <y> & "z"\n', "mode": 3, "tags": ["s", "t"]}
    calls = [
        ToolCall("call00001", "write", json.dumps(arguments)),
        ToolCall("call00002", "now", "{}"),
    ]
    messages = [
        Message("user", "qxquestion"),
        Message("assistant", tool_calls=calls),
        Message("tool", "qxresult", tool_call_id="call00001"),
        Message("tool", "qxreply", tool_call_id="call00002"),
    ]
    tools = [Tool(name, "", json.dumps(schema)) for name, schema in SCHEMAS.items()]
    lost = {}
    for name, source in real_templates().items():
        template = ChatTemplate(source, SPECIAL)
        if not template.traits.takes_calls:
            continue
        prompt = template.render(Conversation(messages, tools=tools))
        asked = template.render(Conversation(messages[:1], tools=tools))
        begin = next((i for i, c in enumerate(asked) if prompt[i] != c), len(asked))
        if begin < len(asked):
            # The question's prompt opens thinking, with the beginning of the mark that opens calls.
            begin = asked.rfind("<", 0, begin)
        written = prompt[begin : prompt.index("qxresult")]
        wanted = [("write", arguments), ("now", {})]
        wanted = wanted if template.traits.takes_parallel_calls else wanted[:1]
        if (found := read([written], SCHEMAS)[0]) != wanted:
            lost[name] = (written, found)
    assert lost == {}
