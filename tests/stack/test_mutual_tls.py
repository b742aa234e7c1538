"""A worker off loopback: certificates on both sides, or nothing at all."""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.app import create_app
from gateway.pool import Pool
from gateway.settings import GatewaySettings
from tests.contract.running_gateway import ticks, until
from tests.running_stack import KEPT_VARIABLES, ROOT, free_port

# A name that is not localhost counts as another machine, also when it is this one.
NAME = socket.gethostname()
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
TOKEN = "t0k"


def resolves(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False


pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None or shutil.which("sh") is None or not resolves(NAME),
    reason="needs openssl, a shell and a machine that knows its own name",
)


def make_certificates(folder: Path, *names: str) -> Path:
    script = ROOT / "deploy" / "make_certificates.sh"
    subprocess.run(["sh", str(script), str(folder), *names], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"), NAME, "gateway", "elsewhere")


def variables(folder: Path, name: str) -> dict[str, str]:
    return {
        "WORKER_TLS_CA": str(folder / "ca.pem"),
        "WORKER_TLS_CERT": str(folder / f"{name}.pem"),
        "WORKER_TLS_KEY": str(folder / f"{name}.key"),
    }


@asynccontextmanager
async def chat_worker(env: Mapping[str, str]) -> AsyncIterator[int]:
    """A real one on all addresses, once its own probe finds it healthy; the port."""
    port = free_port()
    kept = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
    own = {"WORKER_HOST": "0.0.0.0", "CHAT_WORKER_PORT": str(port), "WORKER_TOKEN": TOKEN}
    whole = kept | own | dict(env)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chat_worker"), cwd=ROOT, env=whole, stdin=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(60):
            async for _ in ticks():
                probe = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "cli.probe", "worker", "--port", str(port)),
                    cwd=ROOT,
                    env=whole,
                    stderr=subprocess.DEVNULL,
                )
                if await probe.wait() == 0:
                    break
        yield port
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def gateway(port: int, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Pool]]:
    found = GatewaySettings(
        _env_file=None,
        chat_workers=f"{NAME}:{port}",
        embed_workers="",
        worker_token=TOKEN,
        **settings,
    )
    app = create_app(found)
    pool = app.state.services.pool
    transport = httpx.ASGITransport(app=app)
    async with pool.watching(), httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        await until(lambda: bool(pool.chat.endpoints))
        yield http, pool


def shown(folder: Path, name: str) -> dict[str, Path]:
    return {
        "tls_ca": folder / "ca.pem",
        "tls_cert": folder / f"{name}.pem",
        "tls_key": folder / f"{name}.key",
    }


async def test_only_who_shows_a_certificate_of_the_same_authority_is_served(
    certificates: Path, tmp_path: Path
) -> None:
    strangers = make_certificates(tmp_path / "strangers", "gateway")
    async with chat_worker(variables(certificates, NAME)) as port:
        async with gateway(port, **shown(certificates, "gateway")) as (http, pool):
            await until(lambda: bool(pool.chat.serving))
            reply = await http.post("/v1/chat/completions", json=BODY, timeout=60)
            assert reply.status_code == 200, reply.text
        for refused in (shown(strangers, "gateway"), {"trusted_network": True}):
            async with gateway(port, **refused) as (http, pool):
                assert await health_code(port) is grpc.StatusCode.UNAVAILABLE
                assert (await http.get("/health/ready")).status_code == 503
                assert not pool.chat.serving


async def health_code(port: int) -> grpc.StatusCode:
    """What a caller without certificates gets."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
    return failure.value.code()


async def test_a_worker_that_cannot_prove_its_name_gets_no_requests(
    certificates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with (
        chat_worker(variables(certificates, "elsewhere")) as port,
        gateway(port, **shown(certificates, "gateway")) as (_, pool),
    ):
        await until(lambda: "cannot be reached" in caplog.text)
        assert not pool.chat.serving


def test_no_worker_and_no_gateway_leaves_loopback_without_certificates(certificates: Path) -> None:
    kept = {k: v for k, v in psutil.Process().environ().items() if k in KEPT_VARIABLES}
    for service, env in (
        ("chat_worker", {"WORKER_HOST": "0.0.0.0", "WORKER_TOKEN": TOKEN}),
        ("gateway", {"CHAT_WORKERS": f"{NAME}:50051"}),
        ("gateway", variables(certificates, "gateway") | {"WORKER_TLS_KEY": "/nowhere"}),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", service],
            cwd=ROOT,
            env=kept | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2
        assert "WORKER_TLS_KEY" in ended.stderr
        assert "Traceback" not in ended.stderr
