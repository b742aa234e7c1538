"""Who may ask and how much: keys on every route, limits per client, request ids."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from starlette.routing import Route

from common import errors
from gateway.settings import GatewaySettings
from protos.y26hkx.v1 import chat_pb2
from tests.contract.failures import raising
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import count_up

KEY = "sk-canary-7f3a"
BEARER = {"authorization": f"Bearer {KEY}"}
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
OPEN = {"/health/live", "/health/ready"}


@pytest.fixture
async def locked(worker: ScriptedWorker) -> AsyncIterator[RunningGateway]:
    async with running_gateway([worker], api_keys=KEY) as running:
        yield running


async def test_every_route_but_the_probes_needs_a_key(locked: RunningGateway) -> None:
    app = locked.server.config.app
    routes = [(r.path, m) for r in app.routes if isinstance(r, Route) for m in r.methods or ()]
    described = app.openapi()["paths"]
    routes += [(path, method.upper()) for path, methods in described.items() for method in methods]
    assert len(routes) > 10
    for path, method in [*routes, ("/nope", "GET"), ("//v1/models", "GET"), ("/", "GET")]:
        reply = await locked.http.request(method, path.replace("{model_id}", "x"))
        if path in OPEN:
            assert reply.status_code == 200, path
        else:
            assert reply.status_code == 401, (path, method)
            assert reply.headers["www-authenticate"] == "Bearer"
            assert method == "HEAD" or '"code":"invalid_api_key"' in reply.text


@pytest.mark.parametrize(
    "path",
    ["/health/live/../detailed", "/health/live/", "/HEALTH/live", "/health/live%2f..", "/%2e"],
)
async def test_tricks_with_the_path_open_nothing(locked: RunningGateway, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: x/health/live\r\nConnection: close\r\n\r\n"
    async with locked.raw() as (reader, writer):
        writer.write(head.encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("headers", [BEARER, {"x-api-key": KEY}])
async def test_a_key_opens_in_either_header(
    locked: RunningGateway, headers: dict[str, str]
) -> None:
    assert (await locked.http.post(CHAT, json=BODY, headers=headers)).status_code == 200


@pytest.mark.parametrize("key", ["x", KEY[:-1], KEY + " x", KEY.upper(), "ключ", "\x80"])
async def test_a_wrong_key_is_a_401_whatever_it_is_made_of(
    locked: RunningGateway, key: str
) -> None:
    headers = {b"authorization": b"Bearer " + key.encode()}
    assert (await locked.http.post(CHAT, json=BODY, headers=headers)).status_code == 401


async def test_two_authorization_headers_are_refused(locked: RunningGateway) -> None:
    headers = [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer x")]
    assert (await locked.http.post(CHAT, json=BODY, headers=headers)).status_code == 400


async def test_keys_in_a_hashed_file_are_read_again_when_it_changes(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{hashlib.sha256(b'one').hexdigest()} laptop\n")
    async with running_gateway([worker], api_keys_file=path) as gateway:

        async def status(key: str) -> int:
            headers = {"x-api-key": key}
            return (await gateway.http.get("/v1/models", headers=headers)).status_code

        assert (await status("one"), await status("two")) == (200, 401)
        path.write_text(f"{hashlib.sha256(b'two').hexdigest()}\n")
        later = path.stat().st_mtime + 5
        os.utime(path, (later, later))
        assert (await status("one"), await status("two")) == (401, 200)


async def test_keys_have_caches_of_their_own(
    worker: ScriptedWorker,
) -> None:
    async with running_gateway([worker], api_keys="one,two") as gateway:
        for key in ("one", "two", "one"):
            await gateway.http.post(CHAT, json=BODY, headers={"x-api-key": key})
    first, second, again = [call.request.cache_salt for call in worker.calls]
    assert first == again != second
    assert "one" not in first


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_off_loopback_there_is_no_start_without_keys(host: str) -> None:
    with pytest.raises(ValidationError, match="API_KEYS"):
        GatewaySettings(_env_file=None, host=host)
    GatewaySettings(_env_file=None, host=host, api_keys="k")


def test_api_keys_that_hold_no_key_do_not_open_the_door() -> None:
    with pytest.raises(ValidationError, match="API_KEYS"):
        GatewaySettings(_env_file=None, host="0.0.0.0", api_keys=" , ")


async def test_a_key_appears_in_no_log_reply_or_metric(
    locked: RunningGateway, worker: ScriptedWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    seen = ""
    for body in (BODY, {"messages": 5}, BODY | {"stream": True}):
        reply = await locked.http.post(CHAT, json=body, headers=BEARER)
        seen += reply.text + str(reply.headers)
    wrong = await locked.http.post(CHAT, json=BODY, headers={"x-api-key": f"{KEY}-wrong"})
    assert wrong.status_code == 401
    worker.generate = raising(errors.BackendFailure("broken"))
    broken = await locked.http.post(CHAT, json=BODY, headers=BEARER)
    assert broken.status_code == 500
    seen += wrong.text + broken.text + str(wrong.headers) + str(broken.headers)
    seen += (await locked.http.get("/metrics", headers=BEARER)).text
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpcore", "httpx"))]
    assert KEY not in seen + "\n".join(ours)
    assert all(KEY not in str(call.metadata) + str(call.request) for call in worker.calls)


async def test_the_rate_limit_answers_429_with_its_headers(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], rate_limit="2/minute") as gateway:
        replies = [await gateway.http.post(CHAT, json=BODY) for _ in range(3)]
        assert [r.status_code for r in replies] == [200, 200, 429]
        assert [r.headers["x-ratelimit-remaining-requests"] for r in replies] == ["1", "0", "0"]
        refused = replies[-1]
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-limit-requests"] == "2"
        assert refused.headers["x-ratelimit-reset-requests"]
        assert (await gateway.http.get("/health")).status_code == 200
        assert 'kind="overload"} 1.0' in (await gateway.http.get("/metrics")).text


async def test_rate_limits_are_per_key(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], api_keys="one,two", rate_limit="1/minute") as gateway:

        async def status(key: str) -> int:
            return (
                await gateway.http.post(CHAT, json=BODY, headers={"x-api-key": key})
            ).status_code

        assert [await status(key) for key in ("one", "one", "two")] == [200, 429, 200]


async def test_no_limit_by_default_on_loopback(gateway: RunningGateway) -> None:
    reply = await gateway.http.post(CHAT, json=BODY)
    assert not any(name.startswith("x-ratelimit") for name in reply.headers)


async def test_requests_at_once_are_bounded_and_released(worker: ScriptedWorker) -> None:
    go_on = asyncio.Event()

    async def waits(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        await go_on.wait()
        async for event in count_up(request):
            yield event

    worker.generate = waits
    async with running_gateway([worker], max_in_flight_per_key=1) as gateway:
        first = asyncio.create_task(gateway.http.post(CHAT, json=BODY))
        await worker.next_call()
        assert (await gateway.http.post(CHAT, json=BODY)).status_code == 429
        go_on.set()
        assert (await first).status_code == 200
        assert (await gateway.http.post(CHAT, json=BODY)).status_code == 200


@pytest.mark.parametrize("sent", ["a", "Trace-1.2_3", "x" * 64])
async def test_a_sane_request_id_is_kept_and_goes_to_the_worker(
    gateway: RunningGateway, worker: ScriptedWorker, sent: str
) -> None:
    reply = await gateway.http.post(CHAT, json=BODY, headers={"x-request-id": sent})
    assert reply.headers["x-request-id"] == sent
    assert worker.calls[-1].metadata["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "a;b", "é", "<script>"])
async def test_any_other_request_id_is_replaced(gateway: RunningGateway, sent: str) -> None:
    for path in ("/health", "/nope"):
        reply = await gateway.http.get(path, headers={b"x-request-id": sent.encode()})
        (found,) = reply.headers.get_list("x-request-id")
        assert found != sent
        assert found


async def test_the_workers_token_goes_with_every_call(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], worker_token="t0k") as gateway:
        await gateway.http.post(CHAT, json=BODY)
        await gateway.http.post("/v1/embeddings", json={"input": "x"})
    assert [call.metadata["authorization"] for call in worker.calls] == ["Bearer t0k"] * 2
