"""A gateway on a Unix socket: who may call, and whose socket it is."""

import os
import socket
import stat
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from gateway.transport.listeners import bind
from tests.contract.failures import BODY, CHAT
from tests.contract.running_gateway import running_gateway
from tests.contract.scripted_worker import ScriptedWorker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets are not for Windows")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sock"


async def test_a_socket_serves_its_owner_and_group_and_is_gone_at_the_end(
    worker: ScriptedWorker, path: Path
) -> None:
    before = os.umask(0)
    try:
        # No keys are needed: nobody else can call, whatever GATEWAY_HOST says.
        async with running_gateway([worker], socket=path, host="0.0.0.0") as gateway:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
            assert os.umask(0) == 0
            assert (await gateway.http.post(CHAT, json=BODY)).status_code == 200
            foreign = await gateway.http.get("/v1/models", headers={"host": "evil.example"})
            assert foreign.status_code == 403
    finally:
        os.umask(before)
    assert path.name not in os.listdir(path.parent)


async def test_the_next_server_may_have_its_name_as_soon_as_it_refuses_connections(
    worker: ScriptedWorker, path: Path
) -> None:
    async with AsyncExitStack() as later:
        async with running_gateway([worker], socket=path) as leaving:
            await leaving.server.stop_listening()
            coming = await later.enter_async_context(running_gateway([worker], socket=path))
        assert (await coming.http.get("/health/live")).status_code == 200


async def test_its_clients_are_not_limited_as_those_of_one_address(
    worker: ScriptedWorker, path: Path
) -> None:
    settings: dict[str, Any] = {"socket": path, "max_connections_per_address": 1}
    async with running_gateway([worker], **settings) as gateway:
        first = socket.socket(socket.AF_UNIX)
        with first:
            first.connect(str(path))
            assert (await gateway.http.get("/health/live")).status_code == 200


async def test_a_proxy_behind_it_says_whose_a_request_is(
    worker: ScriptedWorker, path: Path
) -> None:
    settings: dict[str, Any] = {
        "socket": path,
        "trusted_proxies": "unix:",
        "rate_limit": "1/minute",
    }
    async with running_gateway([worker], **settings) as gateway:
        asked = [
            await gateway.http.get("/v1/models", headers={"x-forwarded-for": address})
            for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2")
        ]
    assert [reply.status_code for reply in asked] == [200, 429, 200]


def test_a_socket_of_a_dead_server_is_replaced_and_that_of_a_living_one_is_not(path: Path) -> None:
    with bind(path) as dead:
        dead.listen()
    with bind(path) as living:
        living.listen()
        with pytest.raises(FileExistsError, match="another server listens"):
            bind(path)
    path.unlink()
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="no socket"):
        bind(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("more", [{"https_cert": Path("c")}, {"ollama_port": 11434}])
def test_what_is_for_ports_is_refused_beside_it(path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="GATEWAY_SOCKET replaces that"):
        GatewaySettings(_env_file=None, socket=path, **more)


def test_a_path_that_no_system_takes_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="103 bytes"):
        GatewaySettings(_env_file=None, socket=tmp_path / ("x" * 103))


def test_windows_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ValueError, match="not for Windows"):
        GatewaySettings(_env_file=None, socket=path)
