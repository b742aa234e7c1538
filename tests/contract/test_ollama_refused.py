"""What clients of Ollama's API send by mistake or on purpose: one text as error, never 500."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import errors
from common.errors import ServingError
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID, delta, started

CHAT, GENERATE, EMBED = "/api/chat", "/api/generate", "/api/embed"
POSTS = (CHAT, GENERATE, EMBED, "/api/embeddings", "/api/show", "/api/copy", "/api/create")
HELLO = {"role": "user", "content": "hi"}
MAX_ERROR_BYTES = 4096


def check_shape(reply: httpx.Response, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert len(reply.content) < MAX_ERROR_BYTES
    error: dict[str, Any] = reply.json()
    assert isinstance(error["error"], str)
    assert error["error"]
    assert isinstance(error["code"], str)
    assert error["request_id"] == reply.headers["x-request-id"]
    return error


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"\xff\xfe\x00", b'{"model": NaN}', b'{"a":' * 100_000],
    ids=lambda body: repr(body[:24]),
)
async def test_what_is_no_json_object_is_a_400(
    gateway: RunningGateway, path: str, body: bytes
) -> None:
    check_shape(await gateway.http.post(path, content=body), 400)


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"model": "", "messages": [HELLO]}, "model"),
        (CHAT, {"messages": "hi"}, "messages"),
        (CHAT, {"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (CHAT, {"messages": [HELLO | {"images": ["aGk="]}]}, "messages[0].images"),
        (CHAT, {"messages": [HELLO], "stream": "yes"}, "stream"),
        (CHAT, {"messages": [HELLO], "format": "xml"}, "format"),
        (CHAT, {"messages": [HELLO], "think": "very"}, "think"),
        (CHAT, {"messages": [HELLO], "keep_alive": "soon"}, "keep_alive"),
        (CHAT, {"messages": [HELLO], "top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"messages": [HELLO], "tools": [{"function": {"name": "a b"}}]},
         "tools[0].function.name"),
        (CHAT, {"messages": [HELLO], "options": {"temprature": 1}}, "options.temprature"),
        (CHAT, {"messages": [HELLO], "options": {"temperature": 9}}, "options.temperature"),
        (CHAT, {"messages": [HELLO], "options": {"top_k": 1.5}}, "options.top_k"),
        (CHAT, {"messages": [HELLO], "options": {"mirostat": 2}}, "options.mirostat"),
        (CHAT, {"messages": [HELLO], "options": {"num_ctx": "4k"}}, "options.num_ctx"),
        (CHAT, {"messages": [HELLO], "options": {"stop": [5]}}, "options.stop[0]"),
        (GENERATE, {"prompt": 5}, "prompt"),
        (GENERATE, {"prompt": "x", "template": "{{ .Prompt }}"}, "template"),
        (GENERATE, {"prompt": "x", "images": ["aGk="]}, "images"),
        (GENERATE, {"prompt": "x", "raw": True, "system": "y"}, "raw"),
        (GENERATE, {"prompt": "x", "context": ["a"]}, "context[0]"),
        (GENERATE, {"prompt": "x", "context": [151_644, 872]}, "context"),
        (GENERATE, {"prompt": "x", "context": [123, 125]}, "context"),
        (EMBED, {"model": EMBED_ID, "input": [5]}, "input[0]"),
        (EMBED, {"model": EMBED_ID, "input": ["x"] * 2049}, "input"),
        (EMBED, {"model": CHAT_ID, "input": "x"}, "model"),
    ],
    ids=lambda value: repr(value)[:60],
)  # fmt: skip
async def test_a_wrong_field_is_named(
    gateway: RunningGateway, worker: ScriptedWorker, path: str, fields: dict[str, Any], param: str
) -> None:
    if fields.get("model") == CHAT_ID and path == EMBED:

        async def refuse(request: object) -> Any:
            raise errors.ModelNotFound("no such model", param="model")

        worker.embed = refuse
    reply = await gateway.http.post(path, json={"model": CHAT_ID} | fields)
    assert check_shape(reply, 400)["param"] == param


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Overloaded("full"), 503),
        (errors.BackendLoadFailed("no memory"), 503),
        (errors.ModelNotFound("gone"), 404),
        (errors.ContextLengthExceeded("long"), 400),
        (errors.BackendFailure("broken"), 500),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_early_failure_has_its_status(
    gateway: RunningGateway, worker: ScriptedWorker, error: ServingError, status: int, stream: bool
) -> None:
    async def fail(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        raise error
        yield

    worker.generate = fail
    body = {"model": CHAT_ID, "messages": [HELLO], "stream": stream}
    check_shape(await gateway.http.post(CHAT, json=body), status)


async def test_a_stream_that_breaks_ends_with_a_line_that_says_so(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def fail(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("a")
        raise errors.WorkerLost("it died")

    worker.generate = fail
    body = {"model": CHAT_ID, "messages": [HELLO]}
    reply = await gateway.http.post(CHAT, json=body)
    assert reply.status_code == 200
    *_, last = reply.text.splitlines()
    assert '"error":"it died"' in last
    assert '"done":true' not in reply.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [HELLO]}),
        (CHAT, {"messages": []}),
        (GENERATE, {"prompt": "x", "stream": False}),
        (EMBED, {"input": "x"}),
        ("/api/show", {}),
        ("/api/create", {"from": CHAT_ID}),
        ("/api/copy", {"source": CHAT_ID, "destination": "x"}),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_without_a_worker_it_is_a_503(
    gateway: RunningGateway, worker: ScriptedWorker, path: str, body: dict[str, Any]
) -> None:
    await worker.stop()
    await until(lambda: not gateway.services.pool.chat.serving)
    await until(lambda: not gateway.services.pool.embed.serving)
    reply = await gateway.http.post(path, json={"model": "x:latest"} | body)
    check_shape(reply, 503)


@pytest.mark.parametrize("path", [CHAT, GENERATE])
async def test_an_unknown_name_means_the_default_model_where_that_is_set(
    worker: ScriptedWorker, path: str
) -> None:
    async with running_gateway([worker], unknown_models="default") as gateway:
        body = {
            "model": "gpt-4o",
            "messages": [HELLO],
            "prompt": "x",
            "options": {"num_predict": 1},
        }
        assert (await gateway.http.post(path, json=body)).status_code == 200
        assert worker.calls[-1].request.model == ""
        loads = await gateway.http.post(path, json={"model": "gpt-4o"})
        assert loads.json()["done_reason"] == "load"
        copied = {"source": "gpt-4o", "destination": "x"}
        check_shape(await gateway.http.post("/api/copy", json=copied), 404)


async def test_an_unknown_path_and_a_wrong_method_have_the_same_form(
    gateway: RunningGateway,
) -> None:
    check_shape(await gateway.http.get("/api/nothing"), 404)
    check_shape(await gateway.http.get("/api/chat"), 405)


NAMES = st.sampled_from(
    ["model", "name", "messages", "prompt", "suffix", "system", "context", "stream", "raw",
     "format", "images", "options", "keep_alive", "think", "tools", "input", "truncate",
     "dimensions", "from", "parameters", "modelfile", "source", "destination", "logprobs",
     "top_logprobs", "role", "content", "tool_calls", "function", "arguments", "stop",
     "num_predict", "num_ctx", "seed"]
)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([CHAT_ID, EMBED_ID, "user", "tool", "-1", "5m", "json", 'FROM x\nSYSTEM """'])
    | st.text(st.characters(codec="utf-8"), max_size=8)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


# What each path answers, to be changed by what is made up.
PLAIN: dict[str, dict[str, Any]] = {
    CHAT: {"model": CHAT_ID, "messages": [HELLO]},
    GENERATE: {"model": CHAT_ID, "prompt": "x"},
    EMBED: {"model": EMBED_ID, "input": ["x"]},
    "/api/embeddings": {"model": EMBED_ID, "prompt": "x"},
    "/api/show": {"model": CHAT_ID},
    "/api/copy": {"source": CHAT_ID, "destination": "a"},
    "/api/create": {"model": "a", "from": CHAT_ID},
}


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=st.sampled_from(POSTS), changes=st.dictionaries(NAMES, VALUES, max_size=4))
async def test_no_body_is_a_500(fuzzed: RunningGateway, path: str, changes: dict[str, Any]) -> None:
    reply = await fuzzed.http.post(path, json=PLAIN[path] | changes)
    assert reply.status_code in (200, 400, 404), reply.text
    if reply.status_code != 200:
        assert isinstance(reply.json()["error"], str)


@pytest.fixture
async def fuzzed(worker: ScriptedWorker, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async def say(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("a")
        yield chat_pb2.GenerateEvent(
            finished=chat_pb2.Finished(choices=[chat_pb2.ChoiceEnd(choice=0)])
        )

    worker.generate = say
    async with running_gateway([worker], custom_models_file=tmp_path / "custom.json") as running:
        yield running
