"""The hand-written health call against a real gRPC server, and the containers' probe."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from cli.address import Address
from cli.liveness import grpc_health, http_status
from cli.probe import main as probe

ROOT = Path(__file__).resolve().parents[3]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def serving(server: grpc.aio.Server) -> AsyncIterator[int]:
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@pytest.fixture
async def worker() -> AsyncIterator[tuple[int, health_aio.HealthServicer]]:
    servicer = health_aio.HealthServicer()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    async with serving(server) as port:
        yield port, servicer


async def run_probe(*arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-m", "cli.probe", *arguments), cwd=ROOT, stderr=subprocess.DEVNULL
    )
    return await process.wait()


async def test_a_serving_worker_is_healthy(worker: tuple[int, health_aio.HealthServicer]) -> None:
    port, servicer = worker
    await servicer.set("", SERVING)
    assert (await grpc_health("127.0.0.1", port, 5)).is_serving
    assert await run_probe("worker", "--port", str(port)) == 0


async def test_a_draining_worker_answers_but_is_not_healthy(
    worker: tuple[int, health_aio.HealthServicer],
) -> None:
    port, servicer = worker
    await servicer.set("", NOT_SERVING)
    assert not (await grpc_health("127.0.0.1", port, 5)).is_serving
    assert await run_probe("worker", "--port", str(port)) == 1


async def test_a_server_without_the_health_service_answers_that_it_is_not_healthy() -> None:
    async with serving(grpc.aio.server()) as port:
        assert not (await grpc_health("127.0.0.1", port, 5)).is_serving


async def test_a_process_that_accepts_but_never_answers_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(TimeoutError):
            await grpc_health("127.0.0.1", port, 0.2)
        with pytest.raises(TimeoutError):
            await http_status(Address("127.0.0.1", port), "/health/live", 0.2)


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 9])
async def test_another_protocol_is_no_answer(reply: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        with pytest.raises(OSError, match=r"ended|reply|reset"):
            await grpc_health("127.0.0.1", server.sockets[0].getsockname()[1], 5)


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (503, 1)])
async def test_the_gateway_probe_reads_the_http_status(status: int, exit_status: int) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await run_probe("gateway", "--port", str(port)) == exit_status


def test_the_probe_fails_where_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
        assert probe(["worker", "--port", port, "--timeout", "1"]) == 1
        assert probe(["gateway", "--port", port, "--timeout", "1"]) == 1
