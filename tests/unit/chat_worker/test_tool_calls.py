"""Tool calls in the forms that models write, in any chunking, and forced ones that always parse."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_worker.backend import Tokenizer
from chat_worker.constraints.grammar import Grammars
from chat_worker.pipe_messages import ConstraintSpec
from chat_worker.text.tool_calls.events import CallArguments, CallStarted, TextPiece
from chat_worker.text.tool_calls.filter import ToolCallFilter
from chat_worker.text.tool_calls.formats import (
    ToolCallFormat,
    calls_or_answer,
    forced_calls,
    format_of,
)
from tests.unit.chat_worker.random_answers import answer

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


def read(pieces: list[str], **options: bool) -> tuple[list[tuple[str, str]], str]:
    reader = ToolCallFilter(SCHEMAS, **options)
    found = [piece for text in pieces for piece in reader.push(text)] + reader.flush()
    calls: list[tuple[str, str]] = []
    text = ""
    for piece in found:
        match piece:
            case TextPiece(more):
                text += more
            case CallStarted(index, name):
                assert index == len(calls)
                calls.append((name, ""))
            case CallArguments(index, more):
                calls[index] = (calls[index][0], calls[index][1] + more)
    return calls, text


@pytest.mark.parametrize(
    ("reply", "calls", "text"), [r[1:] for r in REPLIES], ids=[r[0] for r in REPLIES]
)
def test_calls_and_text_come_apart(reply: str, calls: list[tuple[str, Any]], text: str) -> None:
    found, said = read([reply])
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
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


def test_arguments_stream_while_they_come() -> None:
    reader = ToolCallFilter(SCHEMAS)
    reader.push('<tool_call>{"name": "get_weather", "arguments": ')
    assert reader.push('{"city": "Pa') == [CallArguments(0, '{"city": "Pa')]
    assert reader.flush() == []


def test_of_forbidden_parallel_calls_only_the_first_counts() -> None:
    calls, text = read([REPLIES[1][1] + "and text"], parallel=False)
    assert [name for name, _ in calls] == ["get_weather"]
    assert text == ""


def test_a_call_that_never_ends_costs_linear_time() -> None:
    reader = ToolCallFilter(SCHEMAS)
    reader.push('<tool_call>{"name": "now", "arguments": {"a": "')
    for _ in range(100_000):
        reader.push("x")
    endless = ["<tool_call>"] * 10_000 + ['<tool_call>{"arguments": {"a": "' + "x" * 1_500_000]
    assert read(endless) == ([], "".join(endless))


@pytest.mark.parametrize(
    ("template", "controls", "form"),
    [
        ("… <tool_call>\n{{ tool_call }} …", [], ToolCallFormat.HERMES),
        ("… <tool_call> …", ["<tool_call>"], ToolCallFormat.PLAIN),
        ('{"name": function name, "parameters": dictionary}', [], ToolCallFormat.LLAMA),
        ("[TOOL_CALLS]", ["[TOOL_CALLS]"], ToolCallFormat.PLAIN),
        ("", [], ToolCallFormat.PLAIN),
    ],
)
def test_the_form_of_forced_calls_is_the_templates(
    template: str, controls: list[str], form: ToolCallFormat
) -> None:
    assert format_of(template, controls) is form


LONG: dict[str, Any] = {
    "type": "object",
    "properties": {"q": {"type": "string", "maxLength": 8}, "on": {"type": "boolean"}},
    "required": ["q", "on"],
    "additionalProperties": False,
}


NOTHING: dict[str, Any] = {"properties": {}, "additionalProperties": False}


@pytest.mark.parametrize("form", list(ToolCallFormat))
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("only", ["", "search"])
def test_random_logits_under_the_grammar_of_forced_calls_spell_calls(
    tokenizer: Tokenizer, form: ToolCallFormat, parallel: bool, only: str
) -> None:
    schemas: dict[str, dict[str, Any]] = {"search": LONG, "now": NOTHING, "a.b-c": {**LONG}}
    grammar = forced_calls(form, schemas, only, parallel=parallel)
    for seed in range(4):
        constraint = Grammars(tokenizer).start(ConstraintSpec("tools", grammar))
        said = answer(tokenizer, constraint, seed)
        reader = ToolCallFilter(schemas)
        pieces = reader.push(said) + reader.flush()
        assert not [piece for piece in pieces if isinstance(piece, TextPiece)], said
        names = [piece.name for piece in pieces if isinstance(piece, CallStarted)]
        assert 1 <= len(names) <= (8 if parallel else 1)
        assert set(names) <= ({only} if only else set(schemas))
        for index, name in enumerate(names):
            texts = [p.text for p in pieces if isinstance(p, CallArguments) and p.index == index]
            jsonschema.validate(json.loads("".join(texts)), schemas[name])


@pytest.mark.parametrize("form", list(ToolCallFormat))
def test_random_logits_that_may_call_or_answer_do_either_as_it_should_be(
    tokenizer: Tokenizer, form: ToolCallFormat
) -> None:
    schemas: dict[str, dict[str, Any]] = {"search": LONG, "now": NOTHING}
    wanted = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    }
    grammar = calls_or_answer(form, schemas, wanted, parallel=True)
    n_calls = n_answers = 0
    for seed in range(16):
        constraint = Grammars(tokenizer).start(ConstraintSpec("tools", grammar))
        reader = ToolCallFilter(schemas)
        pieces = reader.push(answer(tokenizer, constraint, seed)) + reader.flush()
        begun = [piece for piece in pieces if isinstance(piece, CallStarted)]
        text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
        assert bool(text) is not bool(begun)
        n_calls, n_answers = n_calls + bool(begun), n_answers + bool(text)
        if text:
            jsonschema.validate(json.loads(text), wanted)
    assert n_calls
    assert n_answers
