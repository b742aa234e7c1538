"""Web pages: which may call, what a browser is told before it does, and what the others get."""

import httpx
import pytest

from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker

KEY = "sk-canary-7f3a"
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
PAGE = "https://ui.example"
OTHER = "https://elsewhere.example"


async def preflight(gateway: RunningGateway, origin: str) -> httpx.Response:
    """What a browser asks before a page's POST; it sends no key."""
    asks = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    return await gateway.http.options(CHAT, headers=asks)


async def test_a_page_of_a_listed_origin_may_call_with_a_key(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], cors_origins=PAGE, api_keys=KEY) as gateway:
        asked = await preflight(gateway, PAGE)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert "authorization" in asked.headers["access-control-allow-headers"]
        origin = {"origin": PAGE}
        refused = await gateway.http.post(CHAT, json=BODY, headers=origin)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == PAGE, "or the page sees no error"
        answered = await gateway.http.post(CHAT, json=BODY, headers=origin | {"x-api-key": KEY})
        assert answered.status_code == 200
        assert answered.headers["access-control-expose-headers"] == "*"
        assert (await preflight(gateway, OTHER)).json()["error"]["code"] == "permission_denied"


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]", "app://obsidian.md"],
)
async def test_pages_of_this_machine_may_call_where_no_key_is_asked_for(
    gateway: RunningGateway, origin: str
) -> None:
    asked = await preflight(gateway, origin)
    assert asked.headers["access-control-allow-origin"] == origin
    reply = await gateway.http.post(CHAT, json=BODY, headers={"origin": origin})
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "null",
        "",
        "http://localhost.evil.example",
        "http://evil.example/localhost",
        "http://",
    ],
)
async def test_a_foreign_page_makes_nothing_run_where_no_key_is_asked_for(
    gateway: RunningGateway, worker: ScriptedWorker, origin: str
) -> None:
    # No preflight comes before it: browsers send plain text to anybody.
    headers = {"origin": origin, "content-type": "text/plain"}
    reply = await gateway.http.post(CHAT, json=BODY, headers=headers)
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "permission_denied"
    assert "access-control-allow-origin" not in reply.headers
    assert (await preflight(gateway, origin)).status_code == 403
    assert worker.calls == []


async def test_any_page_may_call_where_that_is_set(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], cors_origins="*") as gateway:
        assert (await preflight(gateway, OTHER)).headers["access-control-allow-origin"] == "*"
        reply = await gateway.http.post(CHAT, json=BODY, headers={"origin": OTHER})
        assert reply.headers["access-control-allow-origin"] == "*"


async def test_keys_keep_pages_of_this_machine_out_too(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], api_keys=KEY) as gateway:
        assert (await preflight(gateway, "http://localhost:3000")).status_code == 403
