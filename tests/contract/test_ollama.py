"""What clients of Ollama's API get: lines, tools, thinking, contexts, loads and vectors."""

import json
from collections.abc import Sequence
from typing import Any

import ollama
import pytest

from protos.y26hkx.v1 import chat_pb2, embed_pb2
from tests.contract.ollama_answers import CHAT, GENERATE, HELLO, TWO, lines, says
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID, PROMPT_TOKENS, delta

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Looks out.", "parameters": PARAMETERS},
}


def calls(*pieces: tuple[int, str, str, str]) -> chat_pb2.GenerateEvent:
    """A delta with pieces of tool calls: index, id, name, arguments."""
    return delta(
        tool_calls=[
            chat_pb2.ToolCallDelta(index=index, id=call_id, name=name, arguments=arguments)
            for index, call_id, name, arguments in pieces
        ]
    )


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
