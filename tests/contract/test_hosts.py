"""Without keys the server answers under its own names only, or any page could read it (DNS
rebinding: the page's own name points to this machine)."""

import pytest
from pydantic import ValidationError

from cli.address import Address
from cli.liveness import http_status
from gateway.settings import GatewaySettings
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
OWN = [
    "localhost",
    "LOCALHOST:8001",
    "localhost.:8001",
    "chat.localhost",
    "127.0.0.1",
    "127.0.0.1:8001",
    "127.9.9.9:80",
    "[::1]",
    "[::1]:8001",
    "[::ffff:127.0.0.1]:8001",
    "host.docker.internal:8001",
]
FOREIGN = [
    "evil.example",
    "evil.example:8001",
    "localhost.evil.example",
    "evillocalhost",
    "127.0.0.1.evil.example",
    "192.168.1.5:8001",
    "[fd00::5]:8001",
    "[::1].evil.example",
    "[::1",
    "::1",
    "localhost:8001:evil",
    "evil.example#localhost",
    "localhost@evil.example",
    "",
]


async def status_of(gateway: RunningGateway, host: str, method: str = "GET") -> int:
    reply = await gateway.http.request(method, "/v1/models", headers={"host": host})
    return reply.status_code


@pytest.mark.parametrize("host", OWN)
async def test_names_and_addresses_of_this_machine_are_answered(
    gateway: RunningGateway, host: str
) -> None:
    assert await status_of(gateway, host) == 200


@pytest.mark.parametrize("host", FOREIGN)
async def test_any_other_name_is_refused(gateway: RunningGateway, host: str) -> None:
    assert await status_of(gateway, host) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/health", "/metrics", "/openapi.json", "/x"])
async def test_no_method_and_no_path_is_left_out(
    gateway: RunningGateway, worker: ScriptedWorker, method: str, path: str
) -> None:
    headers = {"host": "evil.example"}
    reply = await gateway.http.request(method, path, headers=headers, content="{}")
    assert reply.status_code == 403
    assert worker.calls == []


async def test_a_refusal_says_what_to_do_and_is_counted(gateway: RunningGateway) -> None:
    reply = await gateway.http.post(CHAT, json=BODY, headers={"host": "evil.example"})
    error = reply.json()["error"]
    assert error["code"] == "permission_denied"
    assert error["message"] == "this server may not be asked under the name evil.example"
    assert any("ALLOWED_HOSTS" in suggestion for suggestion in error["suggestions"])
    page = (await gateway.http.get("/metrics")).text
    assert 'y26hkx_errors_total{kind="validation"} 1.0' in page


async def test_listed_names_and_addresses_are_answered(worker: ScriptedWorker) -> None:
    listed = "Box.lan, fd00::5, [fd00::6], 192.168.1.5"
    async with running_gateway([worker], allowed_hosts=listed) as gateway:
        for host in ("box.lan", "BOX.LAN:80", "[fd00::5]:1", "[fd00::6]", "192.168.1.5:8001"):
            assert await status_of(gateway, host) == 200, host
        assert await status_of(gateway, "other.lan") == 403
        assert await status_of(gateway, "localhost") == 200


async def test_any_name_is_answered_where_that_is_set(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], allowed_hosts="*") as gateway:
        assert await status_of(gateway, "evil.example") == 200


async def test_with_keys_the_key_decides(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], api_keys="k") as gateway:
        assert await status_of(gateway, "api.example") == 401
        headers = {"host": "api.example", "x-api-key": "k"}
        assert (await gateway.http.get("/v1/models", headers=headers)).status_code == 200
        # As an orchestrator asks, by the container's own address.
        probe = await gateway.http.get("/health/live", headers={"host": "10.0.0.7:8001"})
        assert probe.status_code == 200


async def test_health_checks_are_answered(gateway: RunningGateway) -> None:
    assert await http_status(Address("127.0.0.1", gateway.port), "/health/live", 5.0) == 200
    async with gateway.raw() as (reader, writer):
        writer.write(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("wrong", ["http://box.lan", "box.lan:8001", "box.lan/x", "[box]", "a b"])
def test_what_is_no_host_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError, match="no name or address"):
        GatewaySettings(_env_file=None, allowed_hosts=wrong)
