"""Which replies are compressed: long ones, and only where a network is between."""

from typing import Any

import httpx
import pytest

from gateway.middleware.compression import FROM_BYTES, accepts_gzip
from tests.contract.failures import BODY, CHAT, EMBED
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker

# What a proxy on this machine says of a client.
REMOTE = {"x-forwarded-for": "10.0.0.9"}
LONG = BODY | {"max_tokens": FROM_BYTES // 2}


async def coding(gateway: RunningGateway, path: str, body: Any, **headers: str) -> str:
    reply = await gateway.http.post(path, json=body, headers=headers)
    assert reply.status_code == httpx.codes.OK
    if "stream" not in body:
        assert reply.json()["object"]
    return str(reply.headers.get("content-encoding", ""))


async def test_long_replies_to_other_machines_are_compressed(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], trusted_proxies="127.0.0.1") as gateway:
        assert await coding(gateway, CHAT, LONG, **REMOTE) == "gzip"
        assert await coding(gateway, CHAT, BODY, **REMOTE) == ""
        assert await coding(gateway, CHAT, LONG) == ""
        assert await coding(gateway, CHAT, LONG, **REMOTE, **{"accept-encoding": "br"}) == ""
        assert await coding(gateway, CHAT, LONG | {"stream": True}, **REMOTE) == ""
        vectors = {"input": ["x"] * 1000}
        assert await coding(gateway, EMBED, vectors, **REMOTE) == ""


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip; q=1", True),
        ("gzip;q=0, br", False),
        ("gzip; q=0.000", False),
        ("x-gzip, identity", False),
        ("", False),
    ],
)
def test_a_client_takes_gzip_unless_it_says_no(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) == accepted
