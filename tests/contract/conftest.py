"""A scripted worker, and a gateway before it; without the pauses that tests need not wait for."""

import asyncio
import types
from collections.abc import AsyncIterator, Iterator

import ollama
import pytest
import uvicorn.server

from gateway import idle_time
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker


@pytest.fixture(scope="session", autouse=True)
def short_pauses() -> Iterator[None]:
    """Shorten uvicorn's fixed pauses of 0.1 s at its end: they would be half the time of a test."""
    short = types.ModuleType("asyncio")
    vars(short).update(vars(asyncio))
    short.sleep = lambda seconds: asyncio.sleep(min(seconds, 0.005))  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.server, "asyncio", short)
        yield


@pytest.fixture
async def worker() -> AsyncIterator[ScriptedWorker]:
    async with ScriptedWorker() as scripted:
        yield scripted


@pytest.fixture
async def gateway(worker: ScriptedWorker) -> AsyncIterator[RunningGateway]:
    async with running_gateway([worker]) as running:
        yield running


@pytest.fixture
def short_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batches run as soon as nobody else asks."""
    monkeypatch.setattr(idle_time, "QUIET_S", 0.01)
    monkeypatch.setattr(idle_time, "LATELY_S", 0.0)


@pytest.fixture
async def ollama_client(gateway: RunningGateway) -> AsyncIterator[ollama.AsyncClient]:
    """Ollama's own SDK."""
    async with ollama.AsyncClient(host=gateway.base_url, timeout=30) as sdk:
        yield sdk
