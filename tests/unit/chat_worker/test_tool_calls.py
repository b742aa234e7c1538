"""Tool calls in the forms that models write, in any chunking."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_worker.text.tool_calls.calls import Call, Text, Tools
from chat_worker.text.tool_calls.filter import ToolCallFilter

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, dict[str, Any]] = {"get_weather": WEATHER, "now": {}}

PARIS = {"city": "Paris", "days": 2}
# Name, reply as models write it, calls, text.
REPLIES: list[tuple[str, str, list[tuple[str, Any]], str]] = [
    (
        "qwen 2.5",
        'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", '
        '"days": 2}}\n</tool_call>',
        [("get_weather", PARIS)],
        "Let me look.\n",
    ),
    (
        "hermes, two calls",
        '<tool_call>\n{"arguments": {"city": "Paris", "days": 2}, "name": "get_weather"}\n'
        '</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n',
        [("get_weather", PARIS), ("now", {})],
        "",
    ),
    (
        "qwen 3 coder",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
        "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
        [("get_weather", PARIS)],
        "",
    ),
    (
        "qwen 3 coder without its frame",
        "ok <function=now>\n</function>\n</tool_call>",
        [("now", {})],
        "ok ",
    ),
    (
        "llama 3.1",
        '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris", "days": 2}}',
        [("get_weather", PARIS)],
        "",
    ),
    (
        "llama 3.2, bare, two calls",
        '{"name": "get_weather", "parameters": {"city": "Paris", "days": 2}}; '
        '{"name": "now", "parameters": {}}',
        [("get_weather", PARIS), ("now", {})],
        "",
    ),
    (
        "mistral 7b v0.3",
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}, '
        '"id": "abc123456"}, {"name": "now", "arguments": {}}]',
        [("get_weather", PARIS), ("now", {})],
        "",
    ),
    (
        "mistral small 3",
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris", "days": 2}[TOOL_CALLS]now[ARGS]{}',
        [("get_weather", PARIS), ("now", {})],
        "",
    ),
    (
        "plain json in a fence",
        '```json\n[{"name": "now"}]\n```',
        [("now", {})],
        "",
    ),
    (
        "arguments as a string",
        '{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\", \\"days\\": 2}"}',
        [("get_weather", PARIS)],
        "",
    ),
    (
        "braces, quotes and marks inside of strings",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "}\\"</tool_call>{"}}'
        "</tool_call>",
        [("get_weather", {"city": '}"</tool_call>{'})],
        "",
    ),
    (
        "text about a mark, then a call",
        'Use <tool_call> tags: <tool_call>{"name": "now", "arguments": {}}</tool_call> done',
        [("now", {})],
        "Use <tool_call> tags: done",
    ),
    ("no call", "1 < 2 and [x] {y} `z` <tool>", [], "1 < 2 and [x] {y} `z` <tool>"),
    ("code", "```python\nprint({})\n```", [], "```python\nprint({})\n```"),
    ("other json", '{"answer": [1, 2]}', [], '{"answer": [1, 2]}'),
    (
        "an unknown tool",
        '<tool_call>\n{"name": "rm", "arguments": {}}\n</tool_call>',
        [],
        '<tool_call>\n{"name": "rm", "arguments": {}}\n</tool_call>',
    ),
    (
        "no json",
        "<tool_call>\n{name: now}\n</tool_call>",
        [],
        "<tool_call>\n{name: now}\n</tool_call>",
    ),
    ("cut off before the name", '<tool_call>{"na', [], '<tool_call>{"na'),
    ("a mark after a mark", "<tool_call> <tool_call>x", [], "<tool_call> <tool_call>x"),
    ("half a mark", "a <tool_c", [], "a <tool_c"),
    ("white space only", " \n", [], " \n"),
]


def read(
    pieces: list[str], schemas: dict[str, dict[str, Any]] = SCHEMAS, **options: bool
) -> tuple[list[tuple[str, Any]], str]:
    reader = ToolCallFilter(Tools(schemas), **options)
    found = [piece for text in pieces for piece in reader.push(text)] + reader.flush()
    calls = [(p.name, json.loads(p.arguments)) for p in found if isinstance(p, Call)]
    return calls, "".join(piece.text for piece in found if isinstance(piece, Text))


@pytest.mark.parametrize(
    ("reply", "calls", "text"), [r[1:] for r in REPLIES], ids=[r[0] for r in REPLIES]
)
def test_calls_and_text_come_apart(reply: str, calls: list[tuple[str, Any]], text: str) -> None:
    found, said = read([reply])
    assert found == calls
    assert said == text


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([r[1] for r in REPLIES]), st.data())
def test_any_chunking_gives_the_same(reply: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=12)))
    pieces = [reply[a:b] for a, b in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    assert read(pieces) == read([reply]) == read(list(reply))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='<tool_calfunin>[TOOL_CALLS]{}":,nameow/ \n`json=', max_size=80))
def test_no_reply_is_lost_or_breaks_the_reader(reply: str) -> None:
    calls, text = read([reply])
    if not calls:
        assert text == reply


def test_a_call_comes_whole_and_not_before() -> None:
    reader = ToolCallFilter(Tools(SCHEMAS))
    assert reader.push('<tool_call>{"name": "get_weather", "arguments": ') == []
    assert reader.push('{"city": "Paris"}}') == []
    assert reader.push("</tool_call>") == [Call("get_weather", '{"city": "Paris"}')]


@pytest.mark.parametrize("length", [40, 60, 66])
def test_a_call_that_was_cut_off_is_text(length: int) -> None:
    whole = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}'
    assert read([whole[:length]])[1] == (whole[:length] if length < 66 else "")


def test_of_forbidden_parallel_calls_only_the_first_counts() -> None:
    calls, text = read([REPLIES[1][1] + "and text"], parallel=False)
    assert [name for name, _ in calls] == ["get_weather"]
    assert text == ""


def test_a_call_that_never_ends_costs_linear_time() -> None:
    reader = ToolCallFilter(Tools(SCHEMAS))
    reader.push('<tool_call>{"name": "now", "arguments": {"a": "')
    for _ in range(100_000):
        reader.push("x")
    endless = ["<tool_call>"] * 10_000 + ['<tool_call>{"arguments": {"a": "' + "x" * 1_500_000]
    assert read(endless) == ([], "".join(endless))


def test_a_reply_that_must_be_calls_is_complete_once_an_array_repeats_one() -> None:
    once = '{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}'
    calls = ToolCallFilter(Tools(SCHEMAS), forced=True)
    found = calls.push(f'[{{"name": "now", "arguments": {{}}}}, {once}, ')
    assert not calls.is_complete
    found += calls.push(f'{once}, {{"name')
    assert calls.is_complete
    assert [call.name for call in found if isinstance(call, Call)] == ["now", "get_weather"]
