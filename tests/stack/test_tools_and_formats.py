"""Tools and formats through the whole stack. The built-in model knows neither, so what forces it
shows at its plainest: whatever it would say, the answer has the form that was asked for."""

import json
from typing import Any

import httpx
import jsonschema
import openai
import pydantic
import pytest

from tests.running_stack import GUIDE, RunningStack

CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": CITY}},
    {
        "type": "function",
        "function": {
            "name": "stop",
            "description": "End <|im_end|> it",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        },
    },
]
QUESTION: Any = [{"role": "user", "content": "What will the weather be?"}]


def tool(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def ask(stack: RunningStack, **fields: Any) -> Any:
    body = {"model": GUIDE, "messages": QUESTION, "seed": 1, "max_tokens": 200} | fields
    with stack.openai() as client:
        reply = client.chat.completions.create(**body)
        return list(reply) if fields.get("stream") else reply


@pytest.mark.parametrize("seed", range(3))
def test_a_named_tool_is_called_with_arguments_of_its_schema(
    stack: RunningStack, seed: int
) -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    reply = ask(
        stack, tools=TOOLS, tool_choice=choice, seed=seed, temperature=1, parallel_tool_calls=False
    )
    (call,) = reply.choices[0].message.tool_calls
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.choices[0].message.content is None
    assert call.function.name == "weather"
    assert call.id.startswith("call_")
    jsonschema.validate(json.loads(call.function.arguments), CITY)


def test_a_required_call_streams_in_pieces_that_make_the_plain_reply(stack: RunningStack) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "temperature": 0}
    plain = ask(stack, **fields).choices[0].message.tool_calls
    chunks = ask(stack, stream=True, **fields)
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for piece in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(piece.index, {"name": "", "arguments": ""})
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""
    assert [(c["name"], c["arguments"]) for c in calls.values()] == [
        (call.function.name, call.function.arguments) for call in plain
    ]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_results_of_calls_go_back_to_the_model(stack: RunningStack) -> None:
    called = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        ],
    }
    result = {"role": "tool", "tool_call_id": "a", "content": "sunny"}
    without = ask(stack, tools=TOOLS, max_tokens=4)
    with_result = ask(stack, tools=TOOLS, messages=[*QUESTION, called, result], max_tokens=4)
    assert with_result.usage.prompt_tokens > without.usage.prompt_tokens


def test_forbidden_tools_are_not_shown_to_the_model(stack: RunningStack) -> None:
    shown = ask(stack, tools=TOOLS, max_tokens=1).usage.prompt_tokens
    hidden = ask(stack, tools=TOOLS, tool_choice="none", max_tokens=1).usage.prompt_tokens
    assert hidden == ask(stack, max_tokens=1).usage.prompt_tokens < shown


def test_an_answer_follows_its_schema_plain_and_streamed(stack: RunningStack) -> None:
    format_ = {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY, "strict": True}}
    for seed in range(3):
        reply = ask(stack, response_format=format_, seed=seed, temperature=1)
        jsonschema.validate(json.loads(reply.choices[0].message.content), CITY)
        assert reply.choices[0].finish_reason == "stop"
    chunks = ask(stack, response_format=format_, stream=True, n=2)
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    for text in texts:
        jsonschema.validate(json.loads(text), CITY)


def test_a_reply_calls_or_follows_the_schema_where_both_are_offered(stack: RunningStack) -> None:
    format_ = {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY, "strict": True}}
    for seed in range(4):
        reply = ask(stack, response_format=format_, tools=TOOLS, seed=seed, temperature=2)
        message = reply.choices[0].message
        if message.tool_calls:
            assert reply.choices[0].finish_reason == "tool_calls"
            assert message.content is None
        else:
            jsonschema.validate(json.loads(message.content), CITY)


def test_the_sdk_parses_an_answer_into_a_type(stack: RunningStack) -> None:
    class Trip(pydantic.BaseModel):
        city: str = pydantic.Field(max_length=12)
        is_far: bool

    with stack.openai() as client:
        parsed = client.chat.completions.parse(
            model=GUIDE, messages=QUESTION, response_format=Trip, max_tokens=200
        )
    assert isinstance(parsed.choices[0].message.parsed, Trip)


def test_a_regex_and_a_grammar_hold_too(stack: RunningStack) -> None:
    reply = ask(stack, extra_body={"regex": "[a-c]{3}-[0-9]"})
    assert len(reply.choices[0].message.content) == 5
    reply = ask(stack, extra_body={"grammar": 'start: "yes" | "no"'})
    assert reply.choices[0].message.content in ("yes", "no")


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "x",
                        "schema": {"properties": {"a": {"type": "strin"}}},
                    },
                }
            },
            "response_format",
            "#/properties/a",
        ),
        ({"regex": "("}, "regex", "regex"),
        ({"grammar": "start: x"}, "grammar", "x"),
        ({"tools": TOOLS, "tool_choice": "required", "regex": "a"}, "regex", "no room"),
        ({"tools": TOOLS, "regex": "a"}, "regex", "no room for calls"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools", "same name"),
        ({"tools": [tool(type=5)]}, "tools[0].function.parameters", "of an object"),
        ({"tools": [tool(type="array")]}, "tools[0].function.parameters", "of an object"),
        (
            {
                "tools": [*TOOLS, tool(properties={"a": {"type": "strin"}})],
                "tool_choice": "required",
            },
            "tools[2].function.parameters",
            "tool 'f': the schema cannot be enforced at #/properties/a",
        ),
    ],
)
def test_what_cannot_be_held_is_a_400_that_says_where(
    stack: RunningStack, fields: dict[str, Any], param: str, said: str
) -> None:
    body = {"messages": QUESTION, "max_tokens": 4} | fields
    reply = stack.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.BAD_REQUEST, reply.text
    assert reply.json()["error"]["param"] == param
    assert said in reply.json()["error"]["message"]


NOWHERE = 'start: "abcdefghijkl" never\nnever: never "b"'


def test_arguments_are_an_object_also_where_the_schema_would_take_more(
    stack: RunningStack,
) -> None:
    schema = CITY | {"type": ["object", "null"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
    reply = ask(stack, tools=tools, tool_choice="required", parallel_tool_calls=False)
    (call,) = reply.choices[0].message.tool_calls
    jsonschema.validate(json.loads(call.function.arguments), CITY)


def test_a_stop_string_is_named_where_nothing_but_calls_comes(stack: RunningStack) -> None:
    body = {"messages": QUESTION, "tools": TOOLS, "tool_choice": "required", "stop": ["city"]}
    reply = stack.http.post("/v1/chat/completions", json=body | {"max_tokens": 5})
    assert reply.headers["x-ignored-parameters"] == "stop"


def test_an_answer_whose_grammar_leads_nowhere_is_a_400_and_harms_nobody(
    stack: RunningStack,
) -> None:
    def process() -> Any:
        return stack.http.get(f"/v1/models/{GUIDE}").json()["loaded_at"]

    ask(stack, max_tokens=1)
    before = process()
    body = {"messages": QUESTION, "grammar": NOWHERE}
    reply = stack.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.BAD_REQUEST, reply.text
    streamed = stack.http.post("/v1/chat/completions", json=body | {"stream": True})
    assert "leads nowhere" in streamed.text
    assert "[DONE]" not in streamed.text
    assert ask(stack, max_tokens=4).choices[0].finish_reason == "length"
    assert process() == before


def test_a_call_that_runs_out_of_tokens_ends_with_length(stack: RunningStack) -> None:
    reply = ask(stack, tools=TOOLS, tool_choice="required", max_tokens=3)
    assert reply.choices[0].finish_reason == "length"
    assert not reply.choices[0].message.content


def test_the_sdk_raises_bad_request_for_a_bad_schema(stack: RunningStack) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(stack, extra_body={"regex": "["})
