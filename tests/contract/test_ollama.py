"""What clients of Ollama's API get: their own SDK, lines, tools, thinking, loads and unloads."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import ollama
import pytest

from protos.y26hkx.v1 import chat_pb2, embed_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import (
    CHAT_ID,
    EMBED_ID,
    PROMPT_TOKENS,
    Generate,
    delta,
    finished,
    started,
)

CHAT, GENERATE = "/api/chat", "/api/generate"
HELLO = {"role": "user", "content": "hi"}
TWO = {"num_predict": 2}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Looks out.", "parameters": PARAMETERS},
}


def says(*events: chat_pb2.GenerateEvent, reason: str = "REASON_STOP", **begin: Any) -> Generate:
    async def generate(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started(**begin)
        for event in events:
            yield event
        end = finished(len(events), reason=reason)
        end.finished.timings.prefill_s, end.finished.timings.decode_s = 0.25, 0.5
        yield end

    return generate


def calls(*pieces: tuple[int, str, str, str]) -> chat_pb2.GenerateEvent:
    """A delta with pieces of tool calls: index, id, name, arguments."""
    return delta(
        tool_calls=[
            chat_pb2.ToolCallDelta(index=index, id=call_id, name=name, arguments=arguments)
            for index, call_id, name, arguments in pieces
        ]
    )


def lines(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def turns(request: chat_pb2.GenerateRequest) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in request.conversation.messages]


async def test_the_sdk_chats(ollama_client: ollama.AsyncClient) -> None:
    reply = await ollama_client.chat(CHAT_ID, [HELLO], options={"num_predict": 3})
    assert (reply.message.role, reply.message.content) == ("assistant", "0 1 2 ")
    assert (reply.model, reply.done, reply.done_reason) == (CHAT_ID, True, "length")
    assert (reply.prompt_eval_count, reply.eval_count) == (PROMPT_TOKENS, 3)


async def test_the_sdk_streams_the_same(ollama_client: ollama.AsyncClient) -> None:
    stream = await ollama_client.chat(CHAT_ID, [HELLO], stream=True, options={"num_predict": 3})
    parts = [part async for part in stream]
    assert [part.message.content for part in parts] == ["0 ", "1 ", "2 ", ""]
    assert [part.done for part in parts] == [False, False, False, True]
    assert (parts[-1].done_reason, parts[-1].eval_count) == ("length", 3)


async def test_lines_are_the_default_and_nothing_is_between_them(gateway: RunningGateway) -> None:
    body = {"model": CHAT_ID, "messages": [HELLO], "options": TWO}
    reply = await gateway.http.post(CHAT, json=body)
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert [line["done"] for line in lines(reply.text)] == [False, False, True]


async def test_times_are_nanoseconds(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    worker.generate = says(delta("a"))
    reply = await ollama_client.chat(CHAT_ID, [HELLO])
    assert (reply.prompt_eval_duration, reply.eval_duration) == (250_000_000, 500_000_000)
    assert isinstance(reply.total_duration, int)
    assert reply.total_duration > 0
    assert isinstance(reply.load_duration, int)


async def test_a_model_has_its_name_with_and_without_the_tag(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    for name in (CHAT_ID, f"{CHAT_ID}:latest", CHAT_ID.replace("-", ":")):
        reply = await ollama_client.chat(name, [HELLO], options=TWO)
        assert reply.model == name
        assert worker.calls[-1].request.model == CHAT_ID


async def test_options_become_our_sampling_fields(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    options = {
        "temperature": 1,
        "top_k": 40.0,
        "top_p": 0.5,
        "min_p": 0.25,
        "repeat_penalty": 1.5,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "seed": 7,
        "num_predict": 5,
        "stop": ["\n", "END"],
    }
    await ollama_client.chat(CHAT_ID, [HELLO], options=options, keep_alive="1m30s")
    sent = worker.calls[-1].request
    sampling = sent.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (1, 40, 0.5)
    assert (sampling.min_p, sampling.repetition_penalty, sampling.seed) == (0.25, 1.5, 7)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert (sent.max_tokens, list(sent.stop), sent.keep_alive_s) == (5, ["\n", "END"], 90)


@pytest.mark.parametrize("options", [{}, {"num_predict": -1}, {"num_predict": -2}])
async def test_without_a_limit_an_answer_may_fill_the_context(
    gateway: RunningGateway, worker: ScriptedWorker, options: dict[str, int]
) -> None:
    worker.generate = says(delta("a"))
    body = {"model": CHAT_ID, "messages": [HELLO], "options": options}
    assert (await gateway.http.post(CHAT, json=body)).status_code == 200
    assert not worker.calls[-1].request.HasField("max_tokens")


@pytest.mark.parametrize(
    ("sent", "seconds"), [(0, 0), (-1, -1), ("-1", -1), ("-1m", -60), ("300", 300), (1.5, 1.5)]
)
async def test_keep_alive_takes_numbers_and_durations(
    gateway: RunningGateway, worker: ScriptedWorker, sent: Any, seconds: float
) -> None:
    body = {"model": CHAT_ID, "messages": [HELLO], "keep_alive": sent, "options": TWO}
    assert (await gateway.http.post(CHAT, json=body)).status_code == 200
    assert worker.calls[-1].request.keep_alive_s == seconds


async def test_what_has_no_effect_is_named(worker: ScriptedWorker) -> None:
    worker.facts = {"context_length": 1024}
    body = {
        "model": CHAT_ID,
        "messages": [HELLO | {"mood": "fine"}],
        "options": TWO | {"num_ctx": 4096, "num_gpu": 1, "mirostat": 0},
        "new_field": 1,
    }
    async with running_gateway([worker]) as gateway:
        reply = await gateway.http.post(CHAT, json=body)
        named = reply.headers["x-ignored-parameters"]
        assert named == "mood, new_field, options.num_ctx, options.num_gpu"
        body["options"] = TWO | {"num_ctx": 1024}
        reply = await gateway.http.post(CHAT, json=body)
        assert reply.headers["x-ignored-parameters"] == "mood, new_field"


async def test_tools_over_two_turns(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    worker.generate = says(
        delta("Let me look."),
        calls((0, "call_a", "weather", "")),
        calls((0, "", "", '{"city": ')),
        calls((0, "", "", '"Taipei"}'), (1, "call_b", "weather", "{}")),
        reason="REASON_TOOL_CALLS",
    )
    stream = await ollama_client.chat(CHAT_ID, [HELLO], tools=[WEATHER], stream=True)
    parts = [part.message async for part in stream]
    found = [call for part in parts for call in part.tool_calls or []]
    assert [(c.function.name, dict(c.function.arguments)) for c in found] == [
        ("weather", {"city": "Taipei"}),
        ("weather", {}),
    ]
    whole = await ollama_client.chat(CHAT_ID, [HELLO], tools=[WEATHER])
    assert whole.message.content == "Let me look."
    assert whole.message.tool_calls == found
    assert whole.done_reason == "stop"
    (tool,) = worker.calls[-1].request.conversation.tools
    assert (tool.name, json.loads(tool.parameters_json)) == ("weather", PARAMETERS)

    worker.generate = says(delta("Sun."))
    results: Sequence[dict[str, Any]] = [
        {"role": "tool", "content": "rain", "tool_name": "weather"},
        {"role": "tool", "content": "sun", "tool_name": "weather"},
    ]
    await ollama_client.chat(CHAT_ID, [HELLO, whole.message, *results], tools=[WEATHER])
    _, said, *answered = worker.calls[-1].request.conversation.messages
    assert json.loads(said.tool_calls[0].arguments) == {"city": "Taipei"}
    ids = [call.id for call in said.tool_calls]
    assert [(m.tool_call_id, m.name, m.content) for m in answered] == [
        (ids[0], "weather", "rain"),
        (ids[1], "weather", "sun"),
    ]


async def test_results_without_names_answer_the_calls_in_their_order(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    nothing: dict[str, Any] = {}
    asked = [{"function": {"name": name, "arguments": nothing}} for name in ("a", "b")]
    messages = [
        HELLO,
        {"role": "assistant", "tool_calls": asked},
        {"role": "tool", "content": "2", "tool_name": "b"},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "of nothing"},
    ]
    body = {"model": CHAT_ID, "messages": messages, "options": TWO}
    assert (await gateway.http.post(CHAT, json=body)).status_code == 200
    _, said, *answered = worker.calls[-1].request.conversation.messages
    a, b = (call.id for call in said.tool_calls)
    assert [m.tool_call_id for m in answered] == [b, a, ""]


async def test_thinking_comes_apart_from_the_answer(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    worker.generate = says(delta(reasoning="Well"), delta(reasoning="."), delta("42"))
    reply = await ollama_client.chat(CHAT_ID, [HELLO], think=True)
    assert (reply.message.thinking, reply.message.content) == ("Well.", "42")
    said = await ollama_client.generate(CHAT_ID, "hi", think="high")
    assert (said.thinking, said.response) == ("Well.", "42")
    first, second = (call.request.conversation.template_kwargs for call in worker.calls)
    assert dict(first) == {"enable_thinking": True}
    assert dict(second) == {"enable_thinking": True, "reasoning_effort": "high"}


async def test_a_format_holds_the_answer(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    await ollama_client.chat(CHAT_ID, [HELLO], format=schema, options=TWO)
    assert json.loads(worker.calls[-1].request.constraint.json_schema) == schema
    await ollama_client.generate(CHAT_ID, "hi", format="json", options=TWO)
    assert worker.calls[-1].request.constraint.json_object
    await ollama_client.generate(CHAT_ID, "hi", format="", options=TWO)
    assert not worker.calls[-1].request.HasField("constraint")


async def test_a_prompt_is_a_conversation_that_goes_on_by_its_context(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    first = await ollama_client.generate(CHAT_ID, "What is 1+1?", system="Count.", options=TWO)
    assert first.response == "0 1 "
    await ollama_client.generate(CHAT_ID, "And then?", context=first.context, options=TWO)
    assert turns(worker.calls[-1].request) == [
        ("system", "Count."),
        ("user", "What is 1+1?"),
        ("assistant", "0 1 "),
        ("user", "And then?"),
    ]
    await ollama_client.generate(CHAT_ID, "x", system="Stop.", context=first.context, options=TWO)
    assert turns(worker.calls[-1].request)[:2] == [("system", "Stop."), ("user", "What is 1+1?")]


async def test_a_raw_prompt_is_no_conversation(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    reply = await ollama_client.generate(CHAT_ID, "<|im_start|>", raw=True, options=TWO)
    sent = worker.calls[-1].request
    assert (sent.prompt, sent.parse_special, reply.context) == ("<|im_start|>", True, None)


async def test_a_suffix_is_what_comes_after_the_answer(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    reply = await ollama_client.generate(CHAT_ID, "def f(", suffix="return 1", options=TWO)
    sent = worker.calls[-1].request
    assert (sent.infill.prefix, sent.infill.suffix) == ("def f(", "return 1")
    assert (reply.response, reply.context) == ("0 1 ", None)


async def test_log_probabilities_come_with_the_tokens(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    one = chat_pb2.Candidate(token=1, text=b"a", logprob=-0.5)
    worker.generate = says(delta("a", logprobs=[chat_pb2.TokenLogprob(chosen=one, top=[one])]))
    reply = await ollama_client.chat(CHAT_ID, [HELLO], logprobs=True, top_logprobs=1)
    assert worker.calls[-1].request.top_logprobs == 1
    assert reply.logprobs is not None
    (found,) = reply.logprobs
    assert (found.token, found.logprob) == ("a", -0.5)
    assert found.top_logprobs is not None
    assert found.top_logprobs[0].token == "a"


async def test_input_that_may_not_be_cut_is_refused_where_it_would_be(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = says(delta("a"), trimmed_tokens=9, trimmed_messages=1)
    body = {"model": CHAT_ID, "messages": [HELLO]}
    for stream in (True, False):
        asked = body | {"truncate": False, "stream": stream}
        reply = await gateway.http.post(CHAT, json=asked)
        assert (reply.status_code, reply.json()["code"]) == (400, "context_length_exceeded")
    reply = await gateway.http.post(CHAT, json=body)
    assert lines(reply.text)[-1]["trimmed"] is True


@pytest.mark.parametrize(
    ("path", "text"), [(CHAT, {"messages": []}), (CHAT, {}), (GENERATE, {"prompt": ""})]
)
async def test_a_request_without_a_prompt_loads_or_unloads(
    gateway: RunningGateway, worker: ScriptedWorker, path: str, text: dict[str, Any]
) -> None:
    reply = await gateway.http.post(path, json={"model": CHAT_ID, "keep_alive": 60} | text)
    assert (reply.json()["done"], reply.json()["done_reason"]) == (True, "load")
    loaded = worker.calls[-1].request
    assert (loaded.model, loaded.keep_alive_s) == (CHAT_ID, 60)
    reply = await gateway.http.post(path, json={"model": CHAT_ID, "keep_alive": 0} | text)
    assert reply.json()["done_reason"] == "unload"
    assert type(worker.calls[-1].request).__name__ == "UnloadModelRequest"


async def test_the_sdk_embeds(ollama_client: ollama.AsyncClient, worker: ScriptedWorker) -> None:
    reply = await ollama_client.embed(EMBED_ID, ["a", "b", "c"])
    assert reply.embeddings[0] == [0, 1, 0, 0]
    assert reply.embeddings[2] == pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0, 0])
    assert reply.prompt_eval_count == 6
    assert (await ollama_client.embed(EMBED_ID, "a")).embeddings == [[0, 1, 0, 0]]
    assert list((await ollama_client.embeddings(EMBED_ID, "a")).embedding) == [0, 1, 0, 0]
    await ollama_client.embed(EMBED_ID, "a", truncate=False, dimensions=2, keep_alive=5)
    sent = worker.calls[-1].request
    assert (sent.truncate, sent.dimensions, sent.keep_alive_s) == (
        embed_pb2.TRUNCATE_NONE,
        2,
        5,
    )


async def test_nothing_to_embed_loads_the_model(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    for path, body, empty in (
        ("/api/embed", {"input": []}, {"model": EMBED_ID, "embeddings": []}),
        ("/api/embed", {}, {"model": EMBED_ID, "embeddings": []}),
        ("/api/embeddings", {"prompt": ""}, {"embedding": []}),
    ):
        reply = await gateway.http.post(path, json={"model": EMBED_ID} | body)
        assert reply.json() == empty
        assert type(worker.calls[-1].request).__name__ == "LoadModelRequest"
