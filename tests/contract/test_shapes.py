"""What clients of OpenAI's API get: shapes, streams, the SDK itself."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import (
    CHAT,
    CHAT_ID,
    EMBED_ID,
    PROMPT_TOKENS,
    delta,
    finished,
    started,
)

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "count"}]


def events_of(text: str) -> list[dict[str, object]]:
    lines = [line[6:] for line in text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_the_openai_sdk_chats_plain_and_streamed(gateway: RunningGateway) -> None:
    def use_sdk() -> None:
        with openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="any") as client:
            plain = client.chat.completions.create(model=CHAT_ID, messages=MESSAGES, max_tokens=3)
            assert plain.choices[0].message.content == "0 1 2 "
            assert plain.choices[0].finish_reason == "length"
            assert plain.usage is not None
            assert plain.usage.total_tokens == PROMPT_TOKENS + 3
            assert plain.system_fingerprint == CHAT.fingerprint
            chunks = list(
                client.chat.completions.create(
                    model=CHAT_ID,
                    messages=MESSAGES,
                    max_tokens=3,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            )
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "0 1 2 "
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 3

    await asyncio.to_thread(use_sdk)


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
async def test_a_base_url_without_v1_is_served_too(gateway: RunningGateway, path: str) -> None:
    body = {"chat/completions": {"messages": MESSAGES}, "responses": {"input": "x"}}.get(
        path, {"prompt": "x"}
    )
    replies = [await gateway.http.post(f"{base}/{path}", json=body) for base in ("", "/v1")]
    assert [reply.status_code for reply in replies] == [200, 200]


async def test_the_openai_sdk_embeds_completes_and_lists(gateway: RunningGateway) -> None:
    def use_sdk() -> None:
        with openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="any") as client:
            vectors = client.embeddings.create(model=EMBED_ID, input=["a", "b"])
            assert [row.embedding[0] for row in vectors.data] == [0.0, 1.0]
            assert vectors.usage.prompt_tokens == 4
            text = client.completions.create(model=CHAT_ID, prompt=["x", "y"], max_tokens=2)
            assert [choice.text for choice in text.choices] == ["0 1 ", "0 1 "]
            assert [choice.index for choice in text.choices] == [0, 1]
            assert {model.id for model in client.models.list()} == {CHAT_ID, EMBED_ID}
            assert client.models.retrieve(CHAT_ID).id == CHAT_ID
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve("nope")

    await asyncio.to_thread(use_sdk)


async def test_a_stream_has_a_role_then_text_then_a_reason(gateway: RunningGateway) -> None:
    reply = await gateway.http.post(
        "/v1/chat/completions", json={"messages": MESSAGES, "max_tokens": 2, "stream": True}
    )
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events_of(reply.text)
    deltas = [event["choices"][0]["delta"] for event in found]  # type: ignore[index]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "0 "},
        {"content": "1 "},
        {},
    ]
    assert found[-1]["choices"][0]["finish_reason"] == "length"  # type: ignore[index]
    assert len({event["id"] for event in found}) == 1
    assert all(event["object"] == "chat.completion.chunk" for event in found)


async def test_n_choices_keep_apart_in_streams_and_replies(gateway: RunningGateway) -> None:
    body = {"messages": MESSAGES, "max_tokens": 2, "n": 3}
    plain = (await gateway.http.post("/v1/chat/completions", json=body)).json()
    assert [c["message"]["content"] for c in plain["choices"]] == ["0 1 "] * 3
    streamed = await gateway.http.post("/v1/chat/completions", json=body | {"stream": True})
    text = {0: "", 1: "", 2: ""}
    for event in events_of(streamed.text):
        choice = event["choices"][0]  # type: ignore[index]
        text[choice["index"]] += choice["delta"].get("content", "")
    assert set(text.values()) == {"0 1 "}


async def test_streamed_completions_number_choices_across_prompts(gateway: RunningGateway) -> None:
    body = {
        "prompt": ["a", "b"],
        "max_tokens": 1,
        "n": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    found = events_of((await gateway.http.post("/v1/completions", json=body)).text)
    indexes = {event["choices"][0]["index"] for event in found if event["choices"]}  # type: ignore[index]
    assert indexes == {0, 1, 2, 3}
    assert found[-1]["usage"]["prompt_tokens"] == 2 * PROMPT_TOKENS  # type: ignore[index]


@pytest.mark.parametrize(
    ("given", "n"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)]
)
async def test_embeddings_take_texts_and_token_ids(
    gateway: RunningGateway, worker: ScriptedWorker, given: object, n: int
) -> None:
    body = {"input": given, "encoding_format": "base64"}
    data = (await gateway.http.post("/v1/embeddings", json=body)).json()["data"]
    assert [row["index"] for row in data] == list(range(n))
    assert struct.unpack("<4f", base64.b64decode(data[-1]["embedding"])) == (n - 1, 1, 0, 0)
    assert len(worker.calls[-1].request.inputs) == n


async def test_every_sampling_field_reaches_the_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    fields = {
        "temperature": 0.25,
        "top_p": 0.5,
        "top_k": 7,
        "min_p": 0.125,
        "repetition_penalty": 1.25,
        "frequency_penalty": -0.5,
        "presence_penalty": 0.5,
        "seed": 11,
    }
    more = {
        "stop": ["x"],
        "max_completion_tokens": 4,
        "n": 2,
        "logit_bias": {"5": -100},
        "logprobs": True,
        "top_logprobs": 2,
        "keep_alive": "5m",
        "ignore_eos": True,
    }
    reply = await gateway.http.post(
        "/v1/chat/completions", json={"messages": MESSAGES} | fields | more
    )
    assert reply.status_code == httpx.codes.OK, reply.text
    request = worker.calls[-1].request
    assert {name: getattr(request.sampling, name) for name in fields} == fields
    assert dict(request.sampling.logit_bias) == {5: -100}
    assert list(request.stop) == ["x"]
    assert (request.max_tokens, request.n, request.top_logprobs) == (4, 2, 2)
    assert (request.keep_alive_s, request.ignore_eos) == (300, True)


async def test_what_a_request_leaves_out_takes_the_old_servers_defaults(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    await gateway.http.post("/v1/chat/completions", json={"messages": MESSAGES})
    request = worker.calls[-1].request
    assert request.sampling.temperature == pytest.approx(0.7)
    assert request.sampling.top_p == pytest.approx(0.9)
    assert request.max_tokens == 512
    assert request.model == ""


async def test_tools_and_formats_are_passed_on_whole(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body = {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
        ],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
        "max_tokens": 1,
    }
    reply = await gateway.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    request = worker.calls[-1].request
    conversation = request.conversation
    assert conversation.messages[0].content == "ab"
    assert conversation.messages[1].tool_calls[0].name == "f"
    assert conversation.messages[2].tool_call_id == "c1"
    assert json.loads(conversation.tools[0].parameters_json) == {"type": "object"}
    assert conversation.tool_choice.mode == chat_pb2.ToolChoice.MODE_NAMED
    assert json.loads(request.constraint.json_schema) == schema


async def test_tool_calls_come_back_whole_and_in_pieces(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def calls_a_tool(
        request: chat_pb2.GenerateRequest,
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        first = chat_pb2.ToolCallDelta(index=0, id="c1", name="f", arguments='{"a"')
        yield delta(tool_calls=[first])
        yield delta(tool_calls=[chat_pb2.ToolCallDelta(index=0, arguments=":1}")])
        yield finished(2, reason="REASON_TOOL_CALLS")

    worker.generate = calls_a_tool
    plain = (await gateway.http.post("/v1/chat/completions", json={"messages": MESSAGES})).json()
    choice = plain["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    streamed = await gateway.http.post(
        "/v1/chat/completions", json={"messages": MESSAGES, "stream": True}
    )
    pieces = [
        call
        for event in events_of(streamed.text)
        for call in event["choices"][0]["delta"].get("tool_calls", [])  # type: ignore[index]
    ]
    assert pieces[0]["function"]["name"] == "f"
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"a":1}'


async def test_logprobs_have_openais_shape(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    async def with_logprobs(
        request: chat_pb2.GenerateRequest,
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        chosen = chat_pb2.Candidate(token=1, text=b"\xe4", logprob=-0.5)
        yield started()
        yield delta("x", logprobs=[chat_pb2.TokenLogprob(chosen=chosen, top=[chosen])])
        yield finished(1)

    worker.generate = with_logprobs
    body = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 1}
    reply = (await gateway.http.post("/v1/chat/completions", json=body)).json()
    (token,) = reply["choices"][0]["logprobs"]["content"]
    assert token["bytes"] == [0xE4]
    assert token["logprob"] == token["top_logprobs"][0]["logprob"] == -0.5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_trimmed_prompt_is_said_in_header_and_body(
    gateway: RunningGateway, worker: ScriptedWorker, stream: bool
) -> None:
    async def trims(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started(trimmed_tokens=40, trimmed_messages=2)
        yield delta("x")
        yield finished(1)

    worker.generate = trims
    body = {"messages": MESSAGES, "stream": stream}
    reply = await gateway.http.post("/v1/chat/completions", json=body)
    assert reply.headers["x-trimmed-tokens"] == "40"
    assert '"trimmed":true' in reply.text


async def test_what_has_no_effect_is_listed_not_silent(gateway: RunningGateway) -> None:
    body = {
        "messages": MESSAGES,
        "max_tokens": 1,
        "user": "u",
        "store": True,
        "metadata": {"a": "b"},
        "parallel_tool_calls": True,
    }
    reply = await gateway.http.post("/v1/chat/completions", json=body)
    listed = set(reply.headers["x-ignored-parameters"].split(", "))
    assert listed == {"user", "store", "metadata", "parallel_tool_calls"}
    embedded = await gateway.http.post("/v1/embeddings", json={"input": "a", "user": "u"})
    assert embedded.headers["x-ignored-parameters"] == "user"


async def test_reload_answers_in_the_old_servers_shape(gateway: RunningGateway) -> None:
    reply = await gateway.http.post("/v1/reload-embeddings")
    assert reply.json() == {
        "refreshed": True,
        "models": [EMBED_ID],
        "default_model": EMBED_ID,
        "ttl_seconds": 300,
    }


@pytest.mark.parametrize(
    ("path", "fields", "name"),
    [
        ("chat/completions", {"messages": MESSAGES}, "chat_template_kwargs.thinking_budget"),
        (
            "messages",
            {"model": CHAT_ID, "messages": MESSAGES, "max_tokens": 3},
            "thinking.budget_tokens",
        ),
        ("responses", {"input": "hi"}, "thinking_budget"),
    ],
)
async def test_what_the_model_cannot_use_is_named_as_the_client_wrote_it(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    path: str,
    fields: dict[str, object],
    name: str,
) -> None:
    async def ignores(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started(ignored=["thinking_budget"])
        yield finished(1)

    worker.generate = ignores
    reply = await gateway.http.post(f"/v1/{path}", json=fields)
    assert reply.headers["x-ignored-parameters"] == name
