"""More connections and more requests than a server can take, against the real stack."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.running_stack import RunningStack

N_IDLE = 2000
N_FLOOD = 60
BODY = {
    "messages": [{"role": "user", "content": "Go on"}],
    "max_tokens": 30,
    "ignore_eos": True,
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files to meet")
async def test_two_thousand_idle_connections_keep_nobody_out(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = N_IDLE + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("this test itself may not open so many")
    # What most systems start a process with.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        with RunningStack(tmp_path / "log") as stack:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
            gateway = stack.one("gateway")
            crowd = await asyncio.gather(
                *(asyncio.open_connection("127.0.0.1", stack.port) for _ in range(N_IDLE))
            )
            try:
                for _, writer in crowd[::2]:
                    writer.write(b"GET /health HTTP/1.1\r\nHo")
                for _ in range(20):
                    async with httpx.AsyncClient(base_url=stack.base_url, timeout=10) as http:
                        assert (await http.get("/health/live")).status_code == httpx.codes.OK
            finally:
                for _, writer in crowd:
                    writer.transport.abort()
            assert stack.one("gateway") == gateway
            assert "out of system resource" not in stack.tail(1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_flood_past_the_queue_is_answered_429_and_the_admitted_ones_finish(
    tmp_path: Path,
) -> None:
    settings = {"MAX_CONCURRENT_REQUESTS": "2", "MAX_QUEUED_REQUESTS": "8"}
    with RunningStack(tmp_path / "log", **settings) as stack:
        async with httpx.AsyncClient(base_url=stack.base_url, timeout=120) as http:
            loaded = await http.post("/v1/chat/completions", json=BODY)
            assert loaded.status_code == httpx.codes.OK
            replies = await asyncio.gather(
                *(http.post("/v1/chat/completions", json=BODY) for _ in range(N_FLOOD))
            )
            found = Counter(reply.status_code for reply in replies)
            assert set(found) == {200, 429}, found
            assert found[200] >= 10
            for refused in (reply for reply in replies if reply.status_code == 429):
                assert refused.json()["error"]["code"] == "overloaded"
                assert int(refused.headers["retry-after"]) >= 1
            assert (await http.post("/v1/chat/completions", json=BODY)).status_code == 200
