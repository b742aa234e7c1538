"""The built-in weights behind other models' templates: one that opens the thinking, one that
teaches calls, and one that means harm."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import jsonschema
import pytest

from models.guide.export import write_gguf
from tests.running_stack import GUIDE, ROOT, RunningStack

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function.name }}"
    "{{ c.function.arguments.items() | list }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
TEMPLATES = {
    "thinker": TURNS
    + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}",
    "caller": "{% if tools %}<tool_call>{{ tools | tojson }}</tool_call>{% endif %}" + TURNS,
    "broken": "{% for m in messages %}",
    "hostile": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
}
QUESTION: Any = [{"role": "user", "content": "What is Y26HKX?"}]
BUDGET = 12
TOWN: Any = {
    "type": "object",
    "properties": {"town": {"enum": ["Bern", "Oslo"]}},
    "required": ["town"],
    "additionalProperties": False,
}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": TOWN}}]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    folder: Path = tmp_path_factory.mktemp("templates")
    models = folder / "models"
    models.mkdir()
    for name, template in TEMPLATES.items():
        shutil.copytree(ROOT / "models" / "guide" / GUIDE, folder / name)
        (folder / name / "chat_template.jinja").write_text(template)
        write_gguf(folder / name, models / f"{name}.gguf")
    with RunningStack(folder / "log", MODELS_DIR=str(models)) as running:
        yield running


def chat(stack: RunningStack, model: str, **fields: Any) -> dict[str, Any]:
    body = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 60} | fields
    reply = stack.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    found: dict[str, Any] = reply.json()
    return found


def thinking(**fields: Any) -> dict[str, Any]:
    return {"chat_template_kwargs": {"thinking_budget": BUDGET} | fields}


def test_thinking_ends_with_its_budget_and_the_answer_follows(stack: RunningStack) -> None:
    reply = chat(stack, "thinker", **thinking())
    message = reply["choices"][0]["message"]
    assert message["reasoning_content"]
    assert message["content"]
    assert "think>" not in message["reasoning_content"] + message["content"]
    n_thought = reply["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert BUDGET <= n_thought < reply["usage"]["completion_tokens"]


def test_thinking_streams_apart_from_the_answer(stack: RunningStack) -> None:
    plain = chat(stack, "thinker", **thinking())["choices"][0]["message"]
    body = {"model": "thinker", "messages": QUESTION, "temperature": 0, "max_tokens": 60}
    streamed = stack.http.post("/v1/chat/completions", json=body | thinking() | {"stream": True})
    frames = [line[6:] for line in streamed.text.split("\n\n") if line.startswith("data: {")]
    deltas = [json.loads(frame)["choices"][0]["delta"] for frame in frames]
    for name in ("reasoning_content", "content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == plain[name]


def test_no_thinking_is_none(stack: RunningStack) -> None:
    for fields in (thinking(enable_thinking=False), {"reasoning_effort": "none"}):
        reply = chat(stack, "thinker", **fields)
        assert "reasoning_content" not in reply["choices"][0]["message"]
        assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_a_format_and_forced_calls_begin_after_the_thinking(stack: RunningStack) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "town", "schema": TOWN}}
    message = chat(stack, "thinker", response_format=schema, **thinking())["choices"][0]["message"]
    assert message["reasoning_content"]
    jsonschema.validate(json.loads(message["content"]), TOWN)
    forced = chat(stack, "thinker", tools=TOOLS, tool_choice="required", **thinking())
    message = forced["choices"][0]["message"]
    assert message["reasoning_content"]
    jsonschema.validate(json.loads(message["tool_calls"][0]["function"]["arguments"]), TOWN)


def test_a_responses_thinking_is_an_item_with_events_of_its_own(stack: RunningStack) -> None:
    with (
        stack.openai() as client,
        client.responses.stream(
            model="thinker", input="hi", max_output_tokens=60, extra_body={"temperature": 0}
        ) as events,
    ):
        kinds = [event.type for event in events]
    assert kinds[2:5] == [
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
    ]


def test_a_message_begins_with_its_thinking_block(stack: RunningStack) -> None:
    with anthropic.Anthropic(base_url=stack.base_url, api_key="x", max_retries=0) as client:
        question: Any = QUESTION
        body: Any = {"model": "thinker", "max_tokens": 1100, "messages": question}
        message = client.messages.create(
            **body,
            thinking={"type": "enabled", "budget_tokens": 1024},
            stop_sequences=["Y26HKX"],
        )
        assert message.content[0].type == "thinking"
        assert message.content[0].signature
        # As clients send it back.
        history: Any = [*question, {"role": "assistant", "content": message.content}, *question]
        client.messages.create(model="thinker", max_tokens=5, messages=history)


def test_calls_that_the_template_teaches_are_forced_in_its_form(stack: RunningStack) -> None:
    reply = chat(stack, "caller", tools=TOOLS, tool_choice="required", max_tokens=300)
    message = reply["choices"][0]["message"]
    assert message["content"] is None
    for call in message["tool_calls"]:
        jsonschema.validate(json.loads(call["function"]["arguments"]), TOWN)


@pytest.mark.parametrize("arguments", ["", "{}", '{"town": "Bern"}'])
def test_a_template_that_takes_arguments_apart_gets_an_object(
    stack: RunningStack, arguments: str
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    history = [
        *QUESTION,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
    ]
    assert chat(stack, "caller", messages=history, max_tokens=2)["choices"]


@pytest.mark.parametrize("arguments", ["{no json", "[1]", "null"])
def test_malformed_arguments_in_the_history_are_mended_and_never_refused(
    stack: RunningStack, arguments: str
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    history = [*QUESTION, {"role": "assistant", "tool_calls": [call]}, *QUESTION]
    body = {"model": "caller", "messages": history, "max_tokens": 2}
    reply = stack.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.OK


def test_it_is_said_which_template_a_model_without_a_valid_one_gets(stack: RunningStack) -> None:
    for model, kind in (("broken", "chatml"), ("caller", "own")):
        loaded = stack.http.post("/v1/models/load", json={"model": model}).json()
        assert loaded["chat_template"] == kind
        assert stack.models()[model]["chat_template"] == kind
    assert chat(stack, "broken")["choices"][0]["message"]["content"]


def test_a_hostile_template_costs_its_own_requests_only(stack: RunningStack) -> None:
    chat(stack, "caller", max_tokens=1)
    began_s = time.monotonic()
    body = {"model": "hostile", "messages": QUESTION}
    reply = stack.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.BAD_REQUEST
    assert "took too long" in reply.text
    assert time.monotonic() - began_s < 30
    assert chat(stack, "caller", max_tokens=1)["choices"]
