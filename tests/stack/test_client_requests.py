"""Requests that real clients send and that were refused or answered wrongly: one row each."""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.running_stack import RunningStack

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
HI: dict[str, Any] = {"role": "user", "content": "hi"}
SHELL: dict[str, Any] = {
    "type": "function",
    "name": "shell",
    "parameters": {"type": "object", "properties": {}},
}
M_IS_TRUE = {
    "type": "object",
    "properties": {"m": {"type": "boolean"}},
    "required": ["m"],
    "additionalProperties": False,
}
LARK = {"type": "grammar", "syntax": "lark", "definition": "start: /[a-z]{1,8}/"}


class Reply(NamedTuple):
    """
    Args:
        ignored: what the header says.
        message: chat's; empty of another API.
    """

    ignored: list[str]
    message: dict[str, Any]
    finish_reason: str
    body: dict[str, Any]

    @property
    def arguments(self) -> Any:
        (call,) = self.message["tool_calls"]
        return json.loads(call["function"]["arguments"])

    @property
    def answer(self) -> Any:
        return json.loads(self.message["content"])


class Row(NamedTuple):
    id: str
    path: str
    body: dict[str, Any]
    holds: Callable[[Reply], bool] = lambda _: True


def calling(parameters: Any, **more: Any) -> dict[str, Any]:
    function = {"name": "f"} | ({"parameters": parameters} if parameters != "none" else {})
    named = {"type": "function", "function": {"name": "f"}}
    tools = [{"type": "function", "function": function}]
    return {"messages": [HI], "max_tokens": 80, "tool_choice": named, "tools": tools} | more


def held(schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return {"messages": [HI], "max_tokens": 60, "response_format": form}


def of_m(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"m": schema}, "required": ["m"]} | more


def either(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"t": {"const": name}}, "required": ["t"]}


def codex(**tool: Any) -> dict[str, Any]:
    tools = [SHELL, tool] if tool else [SHELL]
    return {"input": "hi", "max_output_tokens": 5, "tools": tools}


def said(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [HI, *messages], "max_tokens": 4} | more


def called(name: str, arguments: str) -> list[dict[str, Any]]:
    call = {
        "id": "toolu_01",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_01", "content": "22C"},
        {"role": "user", "content": "thanks"},
    ]


E = {"a": {"allOf": [{"$ref": "#/$defs/E"}], "default": "x"}}
ROWS = [
    Row("no parameters", CHAT, calling("none"), lambda r: r.arguments == {}),
    Row("null parameters", CHAT, calling(None), lambda r: r.arguments == {}),
    Row("empty parameters", CHAT, calling({}), lambda r: r.arguments == {}),
    Row("a bare object", CHAT, calling({"type": "object"}), lambda r: r.arguments == {}),
    Row(
        "allOf of a $ref",
        CHAT,
        calling({"type": "object", "properties": E, "$defs": {"E": {"enum": ["x", "y"]}}}),
        lambda r: set(r.arguments) <= {"a"},
    ),
    Row(
        "propertyNames",
        CHAT,
        held(of_m({"type": "object", "propertyNames": {"type": "string"}})),
        lambda r: r.ignored == ["propertyNames"],
    ),
    Row("an unknown format", CHAT, held(of_m({"type": "string", "format": "password"}))),
    Row(
        "oneOf of $refs",
        CHAT,
        held(
            of_m(
                {"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]},
                **{"$defs": {"A": either("a"), "B": either("b")}},
            )
        ),
        lambda r: r.answer["m"]["t"] in ("a", "b"),
    ),
    Row(
        "required without description",
        CHAT,
        held({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a", "zz"]}),
        lambda r: set(r.answer) == {"a", "zz"},
    ),
    *(
        Row(f"a schema in {name}", CHAT, said(**{name: value}, max_tokens=60), holds)
        for name, value in {
            "response_format": {"type": "json_object", "value": M_IS_TRUE},
            "json_schema": M_IS_TRUE,
            "guided_json": M_IS_TRUE,
            "structured_outputs": {"json": M_IS_TRUE},
            "format": M_IS_TRUE,
        }.items()
        for holds in [lambda r: isinstance(r.answer["m"], bool)]
    ),
    *(
        Row(f"a choice in {name}", CHAT, said(**{name: value}, max_tokens=8), holds)
        for name, value in {
            "grammar": 'root ::= "yes" | "no"',
            "guided_grammar": 'start: "yes" | "no"',
            "guided_choice": ["yes", "no"],
            "guided_regex": "yes|no",
            "structured_outputs": {"choice": ["yes", "no"]},
            "response_format": {"type": "regex", "value": "yes|no"},
        }.items()
        for holds in [lambda r: r.message["content"] in ("yes", "no")]
    ),
    Row(
        "client_metadata",
        RESPONSES,
        codex() | {"client_metadata": {"a": "b"}},
        lambda r: r.ignored == ["client_metadata"],
    ),
    *(
        Row(
            f"the hosted tool {kind}",
            RESPONSES,
            codex(type=kind),
            lambda r, kind=kind: r.ignored == [f"tools.{kind}"],  # type: ignore[misc]
        )
        for kind in ("web_search", "local_shell", "mcp", "image_generation", "file_search")
    ),
    Row(
        "a namespace of tools",
        RESPONSES,
        codex(type="namespace", name="agents", tools=[SHELL | {"name": "spawn"}])
        | {"max_output_tokens": 60, "tool_choice": {"type": "function", "name": "spawn"}},
        lambda r: (
            (r.body["output"][0]["namespace"], r.body["output"][0]["name"]) == ("agents", "spawn")
        ),
    ),
    Row(
        "a custom tool with a grammar",
        RESPONSES,
        codex(type="custom", name="apply_patch", description="d", format=LARK)
        | {"max_output_tokens": 60, "tool_choice": {"type": "custom", "name": "apply_patch"}},
        lambda r: (
            r.body["output"][0]["type"] == "custom_tool_call"
            and re.fullmatch("[a-z]{1,8}", r.body["output"][0]["input"]) is not None
        ),
    ),
    Row(
        "fields of our own replies in a part",
        CHAT,
        said(
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "a", "role": "assistant", "reasoning_content": "so"}
                ],
            },
            HI,
        ),
        lambda r: r.ignored == ["reasoning_content", "role"],
    ),
    Row(
        "fields of other vendors in history",
        CHAT,
        said({"role": "assistant", "content": "ok", "reasoning_details": [{"type": "x"}]}, HI),
        lambda r: r.ignored == ["reasoning_details"],
    ),
    Row("no tools and auto", CHAT, said(tools=[], tool_choice="auto")),
    Row(
        "tokens without limit",
        CHAT,
        said(max_tokens=-1, stop=""),
        lambda r: r.finish_reason == "stop",
    ),
    Row("a cut call in history", CHAT, said(*called("get_weather", '{"city": "Par'))),
    Row("a name with other characters in history", CHAT, said(*called("ns:f", "{}"))),
    Row(
        "a long session",
        CHAT,
        {"messages": [HI, {"role": "assistant", "content": "y"}] * 3000 + [HI], "max_tokens": 2},
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_client_gets_its_answer(stack: RunningStack, row: Row) -> None:
    reply = stack.http.post(row.path, json={"temperature": 0} | row.body)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    choices: list[Any] = body.get("choices", [{"message": {}, "finish_reason": ""}])
    ignored = reply.headers.get("x-ignored-parameters", "")
    names = ignored.split(", ") if ignored else []
    told = Reply(names, choices[0]["message"], choices[0]["finish_reason"], body)
    assert row.holds(told), reply.text


def test_what_a_long_session_loses_is_said(stack: RunningStack) -> None:
    long = [HI, {"role": "assistant", "content": "y"}] * 3000 + [HI]
    reply = stack.http.post(CHAT, json={"messages": long, "max_tokens": 2})
    assert int(reply.headers["x-trimmed-messages"]) > 1000
    assert reply.json()["trimmed"] is True


def test_an_answer_goes_on_after_the_assistants_beginning(stack: RunningStack) -> None:
    """In each API, the answer to a conversation that ends with the beginning of it."""
    asked: Any = {"role": "user", "content": "How do I read the metrics?"}
    exact = {"temperature": 0, "max_tokens": 24}
    whole = stack.http.post(CHAT, json={"messages": [asked]} | exact).json()
    text = whole["choices"][0]["message"]["content"]
    begun, rest = text[: text.index(" has")], text[text.index(" has") :]
    history = [asked, {"role": "assistant", "content": begun}]
    chat = stack.http.post(CHAT, json={"messages": history} | exact).json()
    anthropic = stack.http.post(
        "/v1/messages", json={"model": whole["model"], "messages": history} | exact
    ).json()
    responses = stack.http.post(
        RESPONSES, json={"input": history, "temperature": 0, "max_output_tokens": 24}
    ).json()
    answers = [
        chat["choices"][0]["message"]["content"],
        anthropic["content"][0]["text"],
        responses["output"][0]["content"][0]["text"],
    ]
    assert [answer.startswith(rest) for answer in answers] == [True] * 3


def test_a_templates_own_marks_in_a_prompt_are_read_by_default(stack: RunningStack) -> None:
    question = "How do I read the metrics?"
    exact = {"temperature": 0, "max_tokens": 24}
    chat = stack.http.post(CHAT, json={"messages": [{"role": "user", "content": question}]} | exact)
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    bare = stack.http.post("/v1/completions", json={"prompt": prompt} | exact)
    answer = chat.json()["choices"][0]["message"]["content"]
    assert bare.json()["choices"][0]["text"] == answer
    plain = {"prompt": prompt, "parse_special": False}
    counts = [
        stack.http.post("/tokenize", json=asked).json()["count"]
        for asked in ({"prompt": prompt}, plain)
    ]
    assert counts[0] < counts[1]
