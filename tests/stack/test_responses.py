"""The Responses API through gateway, worker and engine process, with the built-in model."""

import json
from typing import Any, Literal

from pydantic import BaseModel

from tests.running_stack import GUIDE, RunningStack

QUESTION = "What is Y26HKX?"
UNIT = {"type": "string", "enum": ["C", "F"]}
WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"unit": UNIT},
        "required": ["unit"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Verdict(BaseModel):
    answer: Literal["yes", "no"]


def test_the_same_answer_comes_plain_streamed_and_from_chat(stack: RunningStack) -> None:
    with stack.openai() as client:
        plain = client.responses.create(model=GUIDE, input=QUESTION, temperature=0)
        with client.responses.stream(model=GUIDE, input=QUESTION, temperature=0) as stream:
            streamed = stream.get_final_response()
        chat = client.chat.completions.create(
            model=GUIDE, messages=[{"role": "user", "content": QUESTION}], temperature=0
        )
    assert "Y26HKX" in plain.output_text
    assert plain.output_text == streamed.output_text == chat.choices[0].message.content
    assert plain.status == streamed.status == "completed"
    assert plain.usage is not None
    assert streamed.usage is not None
    assert chat.usage is not None
    assert plain.usage.output_tokens == streamed.usage.output_tokens == chat.usage.completion_tokens


def test_a_conversation_goes_on_with_the_items_of_the_reply(stack: RunningStack) -> None:
    items: list[Any] = [{"role": "user", "content": QUESTION}]
    with stack.openai() as client:
        first = client.responses.create(model=GUIDE, input=items, temperature=0)
        items += [*first.output, {"role": "user", "content": "How do I switch the backend?"}]
        second = client.responses.create(model=GUIDE, input=items, temperature=0)
    assert second.output_text
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens


def test_input_tokens_are_counted_as_the_answer_counts_them(stack: RunningStack) -> None:
    with stack.openai() as client:
        counted = client.responses.input_tokens.count(model=GUIDE, input=QUESTION)
        answered = client.responses.create(
            model=GUIDE, input=QUESTION, temperature=0, max_output_tokens=1
        )
    assert answered.usage is not None
    assert counted.input_tokens == answered.usage.input_tokens


def test_logprobs_of_the_answer_come_with_their_tokens(stack: RunningStack) -> None:
    with stack.openai() as client:
        reply = client.responses.create(
            model=GUIDE,
            input=QUESTION,
            temperature=0,
            max_output_tokens=5,
            include=["message.output_text.logprobs"],
            top_logprobs=2,
        )
    assert reply.status == "incomplete"
    (message,) = reply.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    assert part.logprobs
    assert "".join(token.token for token in part.logprobs).startswith(part.text)
    assert all(len(token.top_logprobs) == 2 for token in part.logprobs)


def test_a_tool_that_must_be_called_is_called_plain_and_streamed(stack: RunningStack) -> None:
    fields: dict[str, Any] = {
        "model": GUIDE,
        "input": "What is the weather in Bern?",
        "tools": [WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
    }
    with stack.openai() as client:
        plain = client.responses.create(**fields)
        with client.responses.stream(**fields) as stream:
            streamed = stream.get_final_response()
    (call,) = plain.output
    assert call.type == "function_call"
    assert call.name == "weather"
    assert json.loads(call.arguments)["unit"] in ("C", "F")
    (again,) = streamed.output
    assert again.type == "function_call"
    assert again.arguments == call.arguments


def test_a_schema_shapes_the_answer(stack: RunningStack) -> None:
    with stack.openai() as client:
        reply = client.responses.parse(
            model=GUIDE, input="Is it warm?", text_format=Verdict, temperature=0
        )
    assert isinstance(reply.output_parsed, Verdict)
