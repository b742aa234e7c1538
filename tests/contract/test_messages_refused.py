"""What clients of Anthropic's API are refused, and how: their error form on every layer."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic

from common import errors
from common.errors import ServingError
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, soon, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, Generate, delta, queued, started

PATH, COUNT = "/v1/messages", "/v1/messages/count_tokens"
HELLO: dict[str, Any] = {"role": "user", "content": "hi"}
BODY: dict[str, Any] = {"model": CHAT_ID, "max_tokens": 2, "messages": [HELLO]}
WEATHER: dict[str, Any] = {"name": "weather", "input_schema": {"type": "object"}}


def sdk_of(gateway: RunningGateway, **options: Any) -> AsyncAnthropic:
    kept: dict[str, Any] = {"api_key": "any", "max_retries": 0, "timeout": 30, **options}
    return AsyncAnthropic(base_url=gateway.base_url, **kept)


def raises(error: ServingError, *before: chat_pb2.GenerateEvent) -> Generate:
    async def generate(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        for event in before:
            yield event
        raise error

    return generate


@pytest.mark.parametrize(
    ("error", "kind", "status", "type_"),
    [
        (errors.InvalidRequest, anthropic.BadRequestError, 400, "invalid_request_error"),
        (errors.ContextLengthExceeded, anthropic.BadRequestError, 400, "invalid_request_error"),
        (errors.ModelNotFound, anthropic.NotFoundError, 404, "not_found_error"),
        (errors.RequestTooLarge, anthropic.APIStatusError, 413, "request_too_large"),
        (errors.RateLimited, anthropic.RateLimitError, 429, "rate_limit_error"),
        (errors.Overloaded, anthropic.OverloadedError, 529, "overloaded_error"),
        (errors.BackendFailure, anthropic.InternalServerError, 500, "api_error"),
        (errors.NotReady, anthropic.InternalServerError, 503, "api_error"),
        (errors.DeadlineExceeded, anthropic.InternalServerError, 504, "timeout_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_sdk_knows_every_failure(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    error: type[ServingError],
    kind: type[anthropic.APIStatusError],
    status: int,
    type_: str,
    stream: bool,
) -> None:
    worker.generate = raises(error("what went wrong", param="model", suggestions=("do this",)))
    async with sdk_of(gateway) as client:
        with pytest.raises(kind) as caught:
            await client.messages.create(**BODY, stream=stream)
    assert (caught.value.status_code, caught.value.type) == (status, type_)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["request_id"] == caught.value.request_id
    told = caught.value.body["error"]
    assert (told["message"], told["code"]) == ("what went wrong", error.code)
    assert (told["param"], told["suggestions"]) == ("model", ["do this"])


async def test_an_error_in_mid_stream_is_an_event(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    lost = errors.Overloaded("the engine is full")
    worker.generate = raises(lost, started(), delta("x"))
    async with sdk_of(gateway) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            async with client.messages.stream(**BODY) as events:
                await events.until_done()
    assert caught.value.type == "overloaded_error"
    reply = await gateway.http.post(PATH, json=BODY | {"stream": True})
    name, data = reply.text.strip().split("\n\n")[-1].split("\n")
    assert name == "event: error"
    last = json.loads(data.removeprefix("data: "))
    assert last["error"]["code"] == "overloaded"
    assert last["request_id"] == reply.headers["request-id"]


async def test_errors_of_every_layer_have_the_form(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], api_keys="k", rate_limit="6/minute") as gateway:
        http, key = gateway.http, {"x-api-key": "k"}
        replies = {
            (401, "authentication_error"): await http.post(PATH, json=BODY),
            (405, "invalid_request_error"): await http.get(PATH, headers=key),
            (404, "not_found_error"): await http.post(f"{PATH}/batches", headers=key),
            (413, "request_too_large"): await http.post(
                PATH, content=b"x" * (64 << 20), headers=key
            ),
            (400, "invalid_request_error"): await http.post(COUNT, content=b"{", headers=key),
        }
        assert (await http.post(PATH, json=BODY, headers=key)).status_code == httpx.codes.OK
        for _ in range(2):
            replies[429, "rate_limit_error"] = await http.post(PATH, json=BODY, headers=key)
    for (status, type_), reply in replies.items():
        told = reply.json()
        assert (reply.status_code, told["type"], told["error"]["type"]) == (status, "error", type_)
        assert told["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]


async def test_the_sdks_key_opens_and_a_wrong_one_does_not(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], api_keys="k") as gateway:
        for options in ({"api_key": "k"}, {"auth_token": "k", "api_key": None}):
            async with sdk_of(gateway, **options) as sdk:
                assert (await sdk.messages.create(**BODY)).content
        async with sdk_of(gateway, api_key="x") as sdk:
            with pytest.raises(anthropic.AuthenticationError):
                await sdk.messages.create(**BODY)


def holding(*blocks: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


IMAGE = {"type": "image", "source": {"type": "url", "url": "http://x"}}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "1"}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 10**19}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (holding(CALL, role="assistant"), "messages"),
        (holding({"type": "text", "text": 5}), "messages[0].content[0].text"),
        (holding({"type": 5}), "messages[0].content[0].type"),
        (holding({"text": "a"}), "messages[0].content[0].type"),
        (holding(IMAGE), "messages[0].content[0].type"),
        (holding({"type": "document", "source": {}}), "messages[0].content[0].type"),
        (holding({"type": "document", "source": PDF}), "messages[0].content[0].type"),
        (holding(RESULT | {"content": [IMAGE]}), "messages[0].content[0].content[0].type"),
        (holding(CALL), "messages[0].content[0].type"),
        (holding(RESULT, role="assistant"), "messages[0].content[0].type"),
        (holding(RESULT), "messages"),
        ({"messages": [*holding(CALL, role="assistant")["messages"], HELLO]}, "messages"),
        ({"system": 5}, "system"),
        ({"system": [IMAGE]}, "system[0].type"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": ["a"] * 17}, "stop_sequences"),
        ({"stop_sequences": ["a" * 257]}, "stop_sequences[0]"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [WEATHER | {"name": "a b"}]}, "tools[0].name"),
        ({"tools": [SEARCH]}, "tools[0].type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"n": 2}, "n"),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_a_wrong_field_is_a_400_that_names_it(
    gateway: RunningGateway, worker: ScriptedWorker, fields: dict[str, Any], param: str
) -> None:
    body = {k: v for k, v in (BODY | fields).items() if v is not None}
    reply = await gateway.http.post(PATH, json=body)
    assert reply.status_code == httpx.codes.BAD_REQUEST, reply.text
    assert reply.json()["error"]["param"] == param
    assert worker.calls == []


async def never_starts(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield queued(2)
    await asyncio.Event().wait()


async def never_ends(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield started()
    yield delta("x")
    await asyncio.Event().wait()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", [never_starts, never_ends])
async def test_a_client_that_leaves_stops_the_generation(
    gateway: RunningGateway, worker: ScriptedWorker, script: Generate, stream: bool
) -> None:
    worker.generate = script
    content = json.dumps(BODY | {"stream": stream}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    async with gateway.raw() as (_, writer):
        writer.write(head.encode() + content)
        call = await worker.next_call()
    await soon(call.cancelled.wait())
    (endpoint,) = gateway.services.pool.chat.endpoints
    await until(lambda: endpoint.n_outstanding == 0)
