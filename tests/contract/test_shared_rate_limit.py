"""Gateways that count together in a real Redis, and go on when it does not."""

import asyncio
import importlib.util
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.middleware import rate_limit
from gateway.middleware.rate_limit import SHARED_BUDGET_S, RateLimit
from tests.contract.running_gateway import running_gateway, ticks
from tests.contract.scripted_worker import ScriptedWorker
from tests.running_stack import free_port

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None or importlib.util.find_spec("redis") is None,
    reason="needs redis-server and the extra redis",
)
# Several times the budget: other work runs on a test machine.
AT_MOST_S = SHARED_BUDGET_S * 10


class Redis:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"redis://127.0.0.1:{self.port}"
        options = ["--port", str(self.port), "--dir", str(folder), "--save", ""]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)

    async def says(self, command: str, answer: str) -> None:
        """Return once it answers `command` so."""
        async with asyncio.timeout(20):
            async for _ in ticks():
                asking = await asyncio.create_subprocess_exec(
                    *("redis-cli", "-p", str(self.port), *command.split()),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
                if answer.encode() in (await asking.communicate())[0]:
                    return


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    running = Redis(tmp_path)
    try:
        await running.says("ping", "PONG")
        yield running
    finally:
        running.process.kill()
        running.process.wait()


async def used(limit: RateLimit, storage: str) -> None:
    """Return once `limit` counts "shared" or "local"."""
    async with asyncio.timeout(20):
        async for _ in ticks():
            again_s = limit.shared_again_s
            await limit.hit("somebody else")
            if (limit.shared_again_s == again_s) is (storage == "shared"):
                return


async def test_two_gateways_count_as_one(redis: Redis, worker: ScriptedWorker) -> None:
    settings = {"rate_limit": "3/minute", "rate_limit_storage": redis.uri}
    async with (
        running_gateway([worker], **settings) as one,
        running_gateway([worker], **settings) as other,
    ):
        replies = [await gateway.http.get("/v1/models") for gateway in (one, other, one, other)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    left = [reply.headers["x-ratelimit-remaining-requests"] for reply in replies]
    assert left == ["2", "1", "0", "0"]


async def test_the_first_answer_of_a_redis_may_take_longer_than_others(redis: Redis) -> None:
    def wake() -> None:
        redis.process.send_signal(signal.SIGCONT)

    one, other = (RateLimit("1/minute", redis.uri) for _ in range(2))
    assert (await one.hit("a"))[0]
    redis.process.send_signal(signal.SIGSTOP)
    waking = asyncio.get_running_loop().call_later(4 * SHARED_BUDGET_S, wake)
    try:
        assert not (await other.hit("a"))[0], "the limit was passed right after a start"
    finally:
        waking.cancel()
        wake()
    for limit in (one, other):
        await limit.close()


@pytest.mark.parametrize("fault", ["killed", "hung", "read-only"])
async def test_a_broken_redis_costs_little_and_local_counts_decide(
    redis: Redis, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "SHARED_PAUSE_S", 0.0)
    limit = RateLimit("2/minute", redis.uri)
    assert (await limit.hit("a"))[0]
    if fault == "killed":
        redis.process.kill()
        redis.process.wait()
    elif fault == "hung":
        redis.process.send_signal(signal.SIGSTOP)
    else:
        await redis.says("replicaof 127.0.0.1 1", "OK")
    began_s = time.monotonic()
    allowed = [(await limit.hit("a"))[0] for _ in range(3)]
    assert allowed == [True, True, False], "counted anew, here"
    assert time.monotonic() - began_s < 3 * AT_MOST_S
    if fault == "hung":
        redis.process.send_signal(signal.SIGCONT)
        await used(limit, "shared")
    elif fault == "read-only":
        await redis.says("replicaof no one", "OK")
        await used(limit, "shared")
    await limit.close()
