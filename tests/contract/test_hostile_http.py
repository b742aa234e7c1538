"""Where HTTP/1.1 is ambiguous or endless: what is refused, and what stays inside its request."""

import asyncio
import contextlib
import json

import pytest

from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.test_connections import GET, answer, status_and_error

POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
BODY = json.dumps({"input": "x"}).encode()
LAST = GET + b"Connection: close\r\n\r\n"
# What a parser that finds another end of the first request takes for a second one.
HIDDEN = b"GET /health/live HTTP/1.1\r\nHost: hidden\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nnull",
        POST + b"Content-Length: 4, 4\r\n\r\nnull",
        POST + b"Content-Length: +4\r\n\r\nnull",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\nnull",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity\r\n\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n0\r\n\r\n",
        CHUNKED + b"\r\n0x4\r\nnull\r\n0\r\n\r\n",
        CHUNKED + b"\r\nfffffffffffffffff\r\n",
        CHUNKED + b"\r\n4\nnull\r\n0\r\n\r\n",
        GET.replace(b"1.1", b"2.0") + b"\r\n",
        b"GET /health/live\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        GET.replace(b"\r\n", b"\n") + b"\n",
        GET + b"X: a\r\n folded\r\n\r\n",
        GET + b"X : a\r\n\r\n",
        GET + b"X: a\x00b\r\n\r\n",
        GET + b"X: a\rb\r\n\r\n",
    ],
    ids=lambda value: repr(value[-48:]),
)
async def test_an_ambiguous_request_is_refused_with_all_that_follows(
    gateway: RunningGateway, head: bytes
) -> None:
    reply = await answer(gateway, head + HIDDEN)
    assert status_and_error(reply)[0] == 400
    assert reply.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"\r\n"),
        (GET + b"X: ", b"y"),
        (b"GET /", b"y"),
        (CHUNKED + b"\r\n4;", b"y"),
        (CHUNKED + b"\r\n" + chunk(BODY) + b"0\r\nX: ", b"y"),
        (CHUNKED + b"\r\n" + chunk(BODY) + b"0\r\n", b"X: y\r\n"),
    ],
    ids=["nothing", "header", "path", "extension", "trailer", "trailers"],
)
async def test_what_never_ends_is_refused_while_it_comes(
    gateway: RunningGateway, begin: bytes, more: bytes
) -> None:
    async with gateway.raw() as (reader, writer), asyncio.timeout(20):
        writer.write(begin)
        reading = asyncio.create_task(reader.read())
        while not reading.done():
            writer.write(more * (1024 // len(more)))
            await asyncio.sleep(0)
        # A client that is reset while it sends may not read the answer.
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP/1.1 400 " in await reading


async def test_a_trailer_is_no_header(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], api_keys="the-key") as gateway:
        trailer = b"0\r\nAuthorization: Bearer the-key\r\n\r\n"
        reply = await answer(gateway, CHUNKED + b"\r\n" + chunk(BODY) + trailer + LAST)
    assert reply.startswith(b"HTTP/1.1 401 ")
    assert reply.count(b"HTTP/1.1 200 ") == 1, "the next request is read"


async def test_a_body_behind_an_upgrade_is_the_body(gateway: RunningGateway) -> None:
    # As Java's own client asks at first. To others the body would be the next request.
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAA\r\n"
    good = POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    bad = POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN
    reply = await answer(gateway, good + bad + LAST)
    statuses = [part[:3] for part in reply.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"400", b"200"]


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
async def test_requests_are_found_wherever_their_bytes_are_cut(
    gateway: RunningGateway, size: int
) -> None:
    by_length = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    in_chunks = CHUNKED + b"\r\n" + chunk(BODY[:5]) + chunk(BODY[5:]) + b"0\r\n\r\n"
    sent = b"\r\n" + (by_length + in_chunks + GET + b"\r\n") * 2 + LAST
    async with gateway.raw() as (reader, writer), asyncio.timeout(20):
        for at in range(0, len(sent), size):
            writer.write(sent[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)
        reply = await reader.read()
    assert reply.count(b"HTTP/1.1 200 OK") == 7
    assert reply.count(b'"embedding"') == 4 * 2, "the object and its vector"


async def test_blank_lines_in_a_body_end_nothing(gateway: RunningGateway) -> None:
    body = b'{"input":\r\n\r\n"x"}' + b"\r\n\r\n" * 2000
    by_length = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    in_chunks = CHUNKED + b"\r\n" + chunk(body) + b"0\r\n\r\n"
    reply = await answer(gateway, by_length + in_chunks + LAST)
    assert reply.count(b"HTTP/1.1 200 OK") == 3
