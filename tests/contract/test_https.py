"""HTTPS: who gets in, who is turned away, and a certificate that is renewed meanwhile."""

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.settings import GatewaySettings
from tests.certificates import MadeCertificate, made_certificate, needs_openssl
from tests.contract.failures import BODY, CHAT
from tests.contract.running_gateway import RunningGateway, hang_up, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker

pytestmark = needs_openssl

GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def certificate(tmp_path: Path) -> MadeCertificate:
    return made_certificate(tmp_path)


def settings_of(certificate: MadeCertificate) -> dict[str, Any]:
    return {"https_cert": certificate.chain, "https_key": certificate.key}


async def live_over(gateway: RunningGateway, trusted: ssl.SSLContext) -> bytes:
    """The reply to a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trusted)
    try:
        writer.write(GET)
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        await hang_up(writer)


async def test_requests_and_streams_come_over_tls(
    worker: ScriptedWorker, certificate: MadeCertificate
) -> None:
    async with running_gateway(
        [worker], verify=certificate.trusting(), **settings_of(certificate)
    ) as gateway:
        assert (await gateway.http.post(CHAT, json=BODY)).status_code == 200
        async with gateway.http.stream("POST", CHAT, json=BODY | {"stream": True}) as reply:
            lines = [line async for line in reply.aiter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        # Many handshakes at once, each with its request right behind it.
        trusted = certificate.trusting()
        replies = await asyncio.gather(*(live_over(gateway, trusted) for _ in range(50)))
        assert {reply.split(b"\r\n")[0] for reply in replies} == {b"HTTP/1.1 200 OK"}
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(trust_env=False) as other:
                await other.get(f"https://127.0.0.1:{gateway.port}/health/live")
    assert not gateway.server.config.http.inside


async def test_a_client_that_speaks_plain_http_is_closed_and_nothing_is_logged(
    worker: ScriptedWorker, certificate: MadeCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running_gateway([worker], **settings_of(certificate)) as gateway:
        n_before = len(caplog.records)
        async with gateway.raw() as (reader, writer), asyncio.timeout(10):
            writer.write(GET)
            with contextlib.suppress(ConnectionResetError):
                assert not (await reader.read()).startswith(b"HTTP")
        await until(lambda: not gateway.server.config.http.inside)
        assert caplog.records[n_before:] == []


async def test_a_handshake_has_the_time_of_a_head_and_counts_as_a_connection(
    worker: ScriptedWorker, certificate: MadeCertificate
) -> None:
    settings = settings_of(certificate) | {"header_timeout_s": 0.3, "max_connections": 4}
    async with running_gateway([worker], verify=certificate.trusting(), **settings) as gateway:
        inside = gateway.server.config.http.inside
        silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(12)]
        try:
            # The longest silent ones make room, also for a client that has something to say.
            assert await live_over(gateway, certificate.trusting())
            assert len(inside) <= 4
            await until(lambda: not inside)
        finally:
            for connection in silent:
                connection.close()


async def test_a_renewed_certificate_counts_for_new_connections_and_ends_none(
    worker: ScriptedWorker, certificate: MadeCertificate, tmp_path: Path
) -> None:
    (tmp_path / "next").mkdir()
    renewed = made_certificate(tmp_path / "next")
    old = certificate.trusting()
    async with running_gateway([worker], verify=old, **settings_of(certificate)) as gateway:
        async with gateway.http.stream("POST", CHAT, json=BODY | {"stream": True}) as reply:
            lines = reply.aiter_lines()
            await anext(lines)
            shutil.copy(renewed.chain, certificate.chain)
            # The key is still the old one's: both stay in use until they fit again.
            assert await live_over(gateway, old)
            shutil.copy(renewed.key, certificate.key)
            assert await live_over(gateway, renewed.trusting())
            with pytest.raises(ssl.SSLCertVerificationError):
                await live_over(gateway, old)
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        certificate.key.unlink()
        assert await live_over(gateway, renewed.trusting())


async def test_a_reader_that_stops_is_cut_over_tls_too(
    worker: ScriptedWorker, certificate: MadeCertificate
) -> None:
    settings = settings_of(certificate) | {"write_stall_s": 0.3}
    async with running_gateway([worker], verify=certificate.trusting(), **settings) as gateway:
        trusted = certificate.trusting()
        _, writer = await asyncio.open_connection(
            "127.0.0.1", gateway.port, ssl=trusted, limit=1024
        )
        try:
            writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
            await until(lambda: not gateway.server.config.http.inside)
        finally:
            await hang_up(writer)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"https_key": None}, "both files"),
        ({"https_key": "missing.pem"}, "no certificate in"),
        ({"https_key": "cert.pem"}, "no certificate in"),
    ],
)
def test_files_that_make_no_certificate_are_named_at_the_start(
    certificate: MadeCertificate, tmp_path: Path, wrong: dict[str, str | None], reason: str
) -> None:
    given = {name: value and tmp_path / value for name, value in wrong.items()}
    with pytest.raises(ValueError, match=reason):
        GatewaySettings(_env_file=None, **settings_of(certificate) | given)


def test_an_encrypted_key_is_an_error_and_no_question(tmp_path: Path) -> None:
    locked = made_certificate(tmp_path, "-passout", "pass:secret")
    with pytest.raises(ValueError, match="no certificate in"):
        GatewaySettings(_env_file=None, **settings_of(locked))
