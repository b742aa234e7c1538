"""Every parameter that chat clients send is honoured, refused by name, or said to be ignored."""

from typing import Any

import pytest

from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker

MESSAGES = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
HONOURED: list[dict[str, Any]] = [
    {"frequency_penalty": 1},
    {"presence_penalty": 1},
    {"repetition_penalty": 1.1},
    {"logit_bias": {"5": 1}},
    {"logprobs": True, "top_logprobs": 2},
    {"max_completion_tokens": 3},
    {"max_tokens": 3},
    {"min_p": 0.1},
    {"n": 2},
    {"parallel_tool_calls": False, "tools": TOOLS},
    {"response_format": {"type": "json_object"}},
    {"seed": 3},
    {"stop": ["x"]},
    {"temperature": 1},
    {"top_k": 4},
    {"top_p": 0.5},
    {"tools": TOOLS, "tool_choice": "auto"},
    {"regex": "a"},
    {"grammar": 'start: "a"'},
    {"ignore_eos": True},
    {"keep_alive": "5m"},
    {"chat_template_kwargs": {"enable_thinking": False}},
]
WITHOUT_EFFECT: list[dict[str, Any]] = [
    {"metadata": {"a": "b"}},
    {"parallel_tool_calls": False},
    {"prediction": {"type": "content", "content": "x"}},
    {"prompt_cache_key": "k"},
    {"prompt_cache_retention": "24h"},
    {"reasoning_effort": "low"},
    {"safety_identifier": "s"},
    {"service_tier": "flex"},
    {"store": True},
    {"user": "u"},
    {"verbosity": "low"},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"audio": {"voice": "a", "format": "wav"}}, ""),
    ({"modalities": ["text", "audio"]}, ""),
    ({"web_search_options": {}}, ""),
    ({"functions": []}, "tools"),
    ({"function_call": "auto"}, "tool_choice"),
    ({"think": True}, "enable_thinking"),
    ({"options": {"num_ctx": 5}}, "beside messages"),
    ({"format": "json"}, "response_format"),
    ({"guided_json": {}}, "response_format"),
    ({"guided_regex": "a"}, "regex"),
    ({"json_schema": {}}, "response_format"),
    ({"n_predict": 4}, "max_tokens"),
    ({"repeat_penalty": 1.1}, "repetition_penalty"),
    ({"cache_prompt": True}, ""),
    ({"mirostat": 1}, ""),
    ({"typical_p": 0.9}, ""),
    ({"min_tokens": 2}, ""),
    ({"stop_token_ids": [1]}, ""),
    ({"best_of": 2}, ""),
    ({"use_beam_search": True}, ""),
]


async def ask(gateway: RunningGateway, fields: dict[str, Any]) -> Any:
    body = {"messages": MESSAGES} | fields
    return await gateway.http.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize("fields", HONOURED, ids=lambda fields: "+".join(fields))
async def test_what_is_honoured_changes_what_the_worker_is_asked(
    gateway: RunningGateway, worker: ScriptedWorker, fields: dict[str, Any]
) -> None:
    assert (await ask(gateway, {})).status_code == 200
    reply = await ask(gateway, fields)
    assert reply.status_code == 200, reply.text
    assert "x-ignored-parameters" not in reply.headers
    plain, changed = (call.request for call in worker.calls[-2:])
    assert changed != plain


@pytest.mark.parametrize("fields", WITHOUT_EFFECT, ids=lambda fields: "+".join(fields))
async def test_what_changes_nothing_is_named(
    gateway: RunningGateway, fields: dict[str, Any]
) -> None:
    reply = await ask(gateway, fields)
    assert reply.headers["x-ignored-parameters"] == ", ".join(fields)


async def test_obfuscation_that_is_asked_for_is_named(gateway: RunningGateway) -> None:
    options = {"stream": True, "stream_options": {"include_obfuscation": True}}
    reply = await ask(gateway, options)
    assert reply.headers["x-ignored-parameters"] == "stream_options.include_obfuscation"


@pytest.mark.parametrize(("fields", "instead"), REFUSED, ids=repr)
async def test_what_is_not_offered_is_refused_by_name_with_what_is_there_instead(
    gateway: RunningGateway, fields: dict[str, Any], instead: str
) -> None:
    reply = await ask(gateway, fields)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"].startswith(*fields)
    assert instead in reply.text


async def test_calls_and_results_written_before_there_were_tools_reach_the_model(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    history = [
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
    ]
    reply = await ask(gateway, {"messages": [*MESSAGES, *history]})
    assert reply.status_code == 200, reply.text
    _, called, result = worker.calls[-1].request.conversation.messages
    (call,) = called.tool_calls
    assert (call.name, call.arguments) == ("f", "{}")
    assert (result.role, result.tool_call_id, result.content) == ("tool", call.id, "42")
