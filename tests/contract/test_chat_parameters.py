"""Every parameter that chat clients send is honoured, refused by name, or said to be ignored."""

from typing import Any

import pytest

from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker

MESSAGES = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
OTHER_TOOL = {"type": "function", "function": {"name": "g"}}
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {
        "mode": "required",
        "tools": [{"type": "function", "function": {"name": "f"}}],
    },
}
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
    {"reasoning_effort": "low"},
    {"reasoning_effort": "none"},
    {"response_format": {"type": "json_object", "schema": {"const": 1}}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 1}}}},
    {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"tools": [*TOOLS, OTHER_TOOL], "tool_choice": ALLOWED},
    {"tools": TOOLS, "tool_choice": "any"},
    {"max_tokens": -1},
    {"think": False},
    {"think": "low"},
    {"options": {"temperature": 0.1}},
    {"options": {"num_predict": 7}},
    {"n_predict": 4},
    {"repeat_penalty": 1.1},
    {"random_seed": 4},
    {"format": "json"},
    {"format": {"const": 1}},
    {"json_schema": {"const": 1}},
    {"guided_json": {"const": 1}},
    {"guided_json": '{"const": 1}'},
    {"guided_regex": "a"},
    {"guided_grammar": 'start: "a"'},
    {"guided_choice": ["a", "b"]},
    {"structured_outputs": {"choice": ["a"]}},
    {"structured_outputs": {"json": {"const": 1}}},
    {"structured_outputs": {"json_object": True}},
    {"response_format": {"type": "json", "value": {"const": 1}}},
    {"response_format": {"type": "json_object", "value": {"const": 1}}},
    {"response_format": {"type": "json_schema", "value": {"name": "x", "schema": {"const": 1}}}},
    {"response_format": {"type": "regex", "value": "a"}},
    {"response_format": {"type": "grammar", "grammar": 'start: "a"'}},
    {"add_generation_prompt": True},
    {"continue_final_message": False},
]
# Forms of nothing, as clients send it.
NOTHING: list[dict[str, Any]] = [
    {"seed": -1},
    {"stop": ""},
    {"stop": [""]},
    {"tool_choice": "auto"},
    {"tools": [], "tool_choice": "auto"},
    {"format": ""},
    {"continue_final_message": True},
    {"include_reasoning": True},
    {"return_token_ids": False},
    {"separate_reasoning": True, "stream_reasoning": True},
]
WITHOUT_EFFECT: list[dict[str, Any]] = [
    {"metadata": {"a": "b"}},
    {"parallel_tool_calls": False},
    {"prediction": {"type": "content", "content": "x"}},
    {"prompt_cache_key": "k"},
    {"prompt_cache_retention": "24h"},
    {"prompt_cache_options": {"mode": "explicit"}},
    {"safety_identifier": "s"},
    {"service_tier": "flex"},
    {"store": True},
    {"user": "u"},
    {"verbosity": "low"},
    {"cache_prompt": True},
    {"guided_decoding_backend": "outlines"},
    {"mirostat": 1},
    {"num_ctx": 4096},
    {"skip_special_tokens": True},
    {"typical_p": 0.9},
    {"xtc_probability": 0.5},
    {"reasoning_format": "auto"},
    {"ttl": 60},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"audio": {"voice": "a", "format": "wav"}}, ""),
    ({"modalities": ["text", "audio"]}, ""),
    ({"web_search_options": {}}, ""),
    ({"functions": []}, "tools"),
    ({"function_call": "auto"}, "tool_choice"),
    ({"temprature": 1}, "use temperature"),
    ({"max_token": 1}, "use max_tokens"),
    ({"format": "yaml"}, ""),
    ({"guided_choice": []}, ""),
    ({"structured_outputs": {"structural_tag": "{}"}}, ""),
    ({"json_schema": {}, "guided_regex": "a"}, "one format"),
    ({"response_format": {"type": "text", "json_schema": {"name": "x"}}}, "json_schema"),
    ({"response_format": {"type": "text", "schema": {}}}, "json_object"),
    ({"stream_options": {"include_usage": True}}, "stream"),
    ({"tool_choice": "any"}, "tools"),
    ({"tool_choice": ALLOWED}, "tools"),
    ({"tool_choice": {}}, ""),
    ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}}, ""),
    ({"continue_final_message": True, "add_generation_prompt": True}, "only one"),
    ({"min_tokens": 2}, ""),
    ({"include_reasoning": False}, ""),
    ({"return_token_ids": True}, ""),
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


@pytest.mark.parametrize("fields", NOTHING, ids=repr)
async def test_what_asks_for_nothing_is_as_if_it_were_not_there(
    gateway: RunningGateway, worker: ScriptedWorker, fields: dict[str, Any]
) -> None:
    for asked in ({}, fields):
        reply = await ask(gateway, asked)
        assert reply.status_code == 200, reply.text
    plain, same = (call.request for call in worker.calls)
    assert same == plain


async def test_of_ollamas_options_what_has_an_effect_is_honoured_and_the_rest_named(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    options = {"num_predict": 7, "repeat_penalty": 1.5, "seed": 3, "num_ctx": 64, "min_p": 0.5}
    reply = await ask(gateway, {"options": options, "min_p": 0.25})
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-ignored-parameters"] == "options.num_ctx"
    request = worker.calls[-1].request
    assert (request.max_tokens, request.sampling.seed) == (7, 3)
    # What stands beside the messages wins.
    assert (request.sampling.repetition_penalty, request.sampling.min_p) == (1.5, 0.25)


async def test_of_vllms_formats_what_has_no_effect_is_named(gateway: RunningGateway) -> None:
    formats = {"regex": "a", "disable_any_whitespace": True, "whitespace_pattern": None}
    reply = await ask(gateway, {"structured_outputs": formats})
    assert reply.status_code == 200, reply.text
    named = reply.headers["x-ignored-parameters"]
    assert named == "structured_outputs.disable_any_whitespace"


async def test_a_misspelt_schema_is_named(gateway: RunningGateway) -> None:
    wrong = {"name": "x", "shema": {"const": 1}}
    reply = await ask(gateway, {"response_format": {"type": "json_schema", "json_schema": wrong}})
    assert reply.headers["x-ignored-parameters"] == "shema"


async def test_a_choice_is_a_regular_expression_of_its_texts(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    await ask(gateway, {"guided_choice": ["a.b", "(c|d)", "\\"]})
    assert worker.calls[-1].request.constraint.regex == r"(?:a\.b|\(c\|d\)|\\)"


async def test_tokens_without_limit_are_left_to_the_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    await ask(gateway, {"max_tokens": -1})
    assert not worker.calls[-1].request.HasField("max_tokens")


async def test_the_older_name_of_a_limit_gives_way_to_the_newer_and_is_named(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    reply = await ask(gateway, {"max_tokens": 9, "max_completion_tokens": 3})
    assert reply.headers["x-ignored-parameters"] == "max_tokens"
    assert worker.calls[-1].request.max_tokens == 3


async def test_only_allowed_tools_are_shown_to_the_model(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    await ask(gateway, {"tools": [*TOOLS, OTHER_TOOL], "tool_choice": ALLOWED})
    conversation = worker.calls[-1].request.conversation
    assert [tool.name for tool in conversation.tools] == ["f"]
    assert conversation.tool_choice.mode == chat_pb2.ToolChoice.MODE_REQUIRED


async def test_null_asks_for_nothing_whatever_its_name(gateway: RunningGateway) -> None:
    message = MESSAGES[0] | {"audio": None, "provider_specific_fields": None}
    fields = {"functions": None, "function_call": None, "audio": None, "anything": None}
    reply = await ask(gateway, {"messages": [message]} | fields)
    assert reply.status_code == 200, reply.text
    assert "x-ignored-parameters" not in reply.headers


async def test_messages_as_harnesses_and_sdks_write_them_are_taken(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    history = [
        {"role": "user", "content": "hi", "type": "text"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": None, "refusal": "Never."},
        {"role": "assistant", "content": None, "reasoning_content": "Hm"},
        {"role": "assistant", "content": "So.", "reasoning": "Hm"},
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"a": 1}}]},
    ]
    reply = await ask(gateway, {"messages": history})
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-ignored-parameters"] == "cache_control"
    sent = worker.calls[-1].request.conversation.messages
    assert [message.content for message in sent] == ["hi", "No.", "Never.", "", "So.", "x"]
    assert [message.reasoning for message in sent[3:5]] == ["Hm", "Hm"]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "text", "text": 5}, "messages[0].content[0].text"),
        ({"type": "refusal"}, "messages[0].content[0].refusal"),
        ({"type": "image_url", "image_url": {"url": "x"}}, "messages[0].content[0].type"),
        ({"type": "video_url", "video_url": {"url": "x"}}, "messages[0].content[0].type"),
        ({"text": "x"}, "messages[0].content[0].type"),
    ],
)
async def test_a_wrong_part_is_named_by_its_place(
    gateway: RunningGateway, part: dict[str, Any], param: str
) -> None:
    reply = await ask(gateway, {"messages": [{"role": "user", "content": [part]}]})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize("option", ["include_obfuscation", "continuous_usage_stats"])
async def test_options_of_a_stream_without_effect_are_named(
    gateway: RunningGateway, option: str
) -> None:
    reply = await ask(gateway, {"stream": True, "stream_options": {option: True}})
    assert reply.headers["x-ignored-parameters"] == f"stream_options.{option}"


async def test_all_tokens_can_be_asked_for_in_two_ways(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    for top_k in (0, -1):
        assert (await ask(gateway, {"top_k": top_k})).status_code == 200
        assert worker.calls[-1].request.sampling.top_k == 0


@pytest.mark.parametrize("seed", [-(2**63), 2**63 - 1])
async def test_every_seed_of_64_bits_is_taken(gateway: RunningGateway, seed: int) -> None:
    assert (await ask(gateway, {"seed": seed})).status_code == 200


@pytest.mark.parametrize("name", ["regex", "grammar"])
async def test_an_empty_format_is_none_to_drop(gateway: RunningGateway, name: str) -> None:
    reply = await ask(gateway, {name: ""})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == name


@pytest.mark.parametrize(("fields", "instead"), REFUSED, ids=repr)
async def test_what_is_not_offered_is_refused_by_name_with_what_is_there_instead(
    gateway: RunningGateway, fields: dict[str, Any], instead: str
) -> None:
    reply = await ask(gateway, fields)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] in fields or error["param"].startswith(*fields)
    assert instead in reply.text


@pytest.mark.parametrize("fields", [{"min_tokens": 0}, {"use_beam_search": False}], ids=repr)
async def test_what_is_not_offered_may_be_sent_as_not_wanted(
    gateway: RunningGateway, fields: dict[str, Any]
) -> None:
    reply = await ask(gateway, fields)
    assert reply.status_code == 200, reply.text


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
