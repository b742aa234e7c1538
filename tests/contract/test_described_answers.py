"""The API's description names every answer; that no reply lacks there is asked of each test's
(`documented.py`)."""

from typing import Any

import httpx
import jsonschema
import pytest

from common import errors
from common.errors import error_types
from gateway.errors import status_on
from tests.contract.documented import answers, document, require_documented
from tests.contract.failures import CHAT, EMBED, raising
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID

STREAMS = {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/infill"}
LINES = {"/api/chat", "/api/generate", "/api/create", "/api/pull"}
ALL = {"400", "401", "403", "408", "413", "415", "500", "503"}


def operations() -> list[tuple[str, str]]:
    paths = document()["paths"].items()
    return [(method.upper(), path) for path, found in paths for method in found]


def statuses(method: str, path: str) -> set[str]:
    return set(answers(method, path) or ())


def test_a_route_that_asks_a_model_may_answer_with_every_error_there_is() -> None:
    every = {str(status_on(CHAT, kind)) for kind in error_types()}
    assert statuses("POST", CHAT) == {"200", "408"} | every
    assert statuses("POST", EMBED) == statuses("POST", CHAT)
    assert statuses("POST", "/v1/messages") == {"529"} | statuses("POST", CHAT)


def test_other_routes_may_answer_what_the_layers_around_them_do() -> None:
    assert statuses("GET", "/health") == {"200"} | ALL
    assert statuses("GET", "/v1/models") == {"200", "429"} | ALL
    assert statuses("GET", "/v1/models/x") == {"200", "404", "429"} | ALL
    assert not [path for method, path in operations() if "422" in statuses(method, path)]


def test_streams_and_texts_are_described_as_what_they_are() -> None:
    typed = {path: set(answers(method, path)["200"]["content"]) for method, path in operations()}  # type: ignore[index]
    streams = {path for path, types in typed.items() if "text/event-stream" in types}
    assert streams == STREAMS | {"/v1/models/load", "/v1/models/pull"}
    assert {path for path, types in typed.items() if "application/x-ndjson" in types} == LINES
    assert typed["/metrics"] == {"text/plain"}


@pytest.mark.parametrize("kind", [*error_types()])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
async def test_every_error_has_the_form_that_is_described(
    gateway: RunningGateway, worker: ScriptedWorker, kind: type[errors.ServingError], path: str
) -> None:
    error = kind("no", param="model", suggestions=("do it",), metadata={"backend": "b"})
    worker.generate = raising(error)
    body = {"model": CHAT_ID, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    _has_described_form(await gateway.http.post(path, json=body))


async def test_refusals_before_any_route_have_the_form_that_is_described(
    worker: ScriptedWorker,
) -> None:
    async with running_gateway([worker], api_keys="k") as gateway:
        for method, path in operations():
            for headers in ({}, {"x-api-key": "k", "content-encoding": "br"}):
                reply = await gateway.http.request(method, path, headers=headers)
                if reply.status_code != 200:
                    assert reply.status_code in (401, 415)
                    _has_described_form(reply)


async def test_a_reply_that_is_not_described_fails_its_test() -> None:
    for status, content in ((418, "application/json"), (200, "text/html")):
        request = httpx.Request("GET", "http://localhost/v1/models")
        reply = httpx.Response(status, headers={"content-type": content}, request=request)
        with pytest.raises(AssertionError, match="is not described"):
            await require_documented(reply)


def _has_described_form(reply: httpx.Response) -> None:
    described = answers(reply.request.method, reply.request.url.path)
    assert described is not None
    answer = described[str(reply.status_code)]
    schema: dict[str, Any] = answer["content"]["application/json"]["schema"]
    whole = {**schema, "components": document()["components"]}
    jsonschema.Draft202012Validator(whole).validate(reply.json())
    body = reply.json()
    # Of Ollama's errors the text alone is inside.
    said = body if isinstance(body["error"], str) else body["error"]
    assert said.get("code") is None or said["code"] in answer["description"]
    assert set(answer["headers"]) <= set(reply.headers) | {"retry-after", "retry-after-ms"}


def _valid(**message: Any) -> bool:
    """Whether the description has a message with these fields."""
    components = document()["components"]
    schema = components["schemas"]["gateway__schemas__chat__Message"] | {"components": components}
    try:
        jsonschema.validate(message, schema)
    except jsonschema.ValidationError:
        return False
    return True


CALL = {"function": {"name": "f", "arguments": "{}"}}
MESSAGES: dict[str, dict[str, Any]] = {
    "a text": {"role": "user", "content": "x"},
    "an empty text": {"role": "system", "content": ""},
    "parts": {"role": "user", "content": [{"type": "text", "text": "x"}]},
    "nothing of a user": {"role": "user"},
    "null of a user": {"role": "user", "content": None},
    "a result of nothing": {"role": "tool", "tool_call_id": "1"},
    "nothing of an assistant": {"role": "assistant"},
    "calls": {"role": "assistant", "tool_calls": [CALL]},
    "calls and null": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "no calls": {"role": "assistant", "content": None, "tool_calls": []},
    "calls of a user": {"role": "user", "tool_calls": [CALL]},
    "an old call": {"role": "assistant", "function_call": CALL["function"]},
    "a refusal": {"role": "assistant", "content": None, "refusal": "no"},
    "an empty refusal": {"role": "assistant", "content": None, "refusal": ""},
    "thoughts": {"role": "assistant", "reasoning_content": "hm"},
    "thoughts by another name": {"role": "assistant", "reasoning": "hm"},
    "a function's result": {"role": "function", "name": "f", "content": "1"},
    "a function without a name": {"role": "function", "content": "1"},
    "a function with an empty name": {"role": "function", "name": "", "content": "1"},
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
async def test_a_message_is_taken_exactly_if_it_is_described(
    gateway: RunningGateway, message: dict[str, Any]
) -> None:
    reply = await gateway.http.post(CHAT, json={"messages": [message]})
    assert (reply.status_code == httpx.codes.OK) == _valid(**message), reply.text
