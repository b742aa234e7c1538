"""A client that leaves before its body is whole is a client that left, no error of ours."""

import logging
from pathlib import Path

import pytest

from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker

SIZED, CHUNKED = b"Content-Length: 900\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
MOMENTS = {
    "before its first byte": SIZED,
    "in the middle of it": SIZED + b'{"input": "x',
    "before its first chunk": CHUNKED,
    "in the middle of a chunk": CHUNKED + b'c\r\n{"input"',
    "between two chunks": CHUNKED + b'4\r\n{"in\r\n',
}


@pytest.mark.parametrize("sent", MOMENTS.values(), ids=MOMENTS.keys())
async def test_a_client_that_leaves_in_its_body_is_one_line_and_no_error_of_ours(
    worker: ScriptedWorker, caplog: pytest.LogCaptureFixture, tmp_path: Path, sent: bytes
) -> None:
    caplog.set_level(logging.INFO)
    async with running_gateway([worker], batches_path=tmp_path / "batches") as gateway:
        paths = _paths_with_a_body(gateway)
        assert len(paths) > 10
        for path in paths:
            await _leave(gateway, path, sent)
        page = (await gateway.http.get("/metrics")).text
    lines = [r.getMessage() for r in caplog.records if r.name == "gateway.access_log"]
    assert len(lines) == len(paths)
    for path, line in zip(paths, lines, strict=True):
        assert f"route={path} status=499" in line
        assert "error=cancelled" in line
    assert not [r for r in caplog.records if r.exc_info or r.levelno >= logging.WARNING]
    assert 'y26hkx_errors_total{kind="internal"} 0.0' in page
    assert f'y26hkx_errors_total{{kind="cancelled"}} {len(paths)}.0' in page
    assert worker.calls == []


def _paths_with_a_body(gateway: RunningGateway) -> list[str]:
    described = gateway.server.config.app.openapi()["paths"]
    bodies = {
        path: methods.get("post", {}).get("requestBody") for path, methods in described.items()
    }
    return [path for path, body in bodies.items() if body and "application/json" in body["content"]]


async def _leave(gateway: RunningGateway, path: str, sent: bytes) -> None:
    async with gateway.raw() as (_, writer):
        writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + sent)
        await writer.drain()
        # The request has begun: else nobody would know that it was one.
        await until(lambda: bool(gateway.server.server_state.tasks))
    await until(lambda: not gateway.server.server_state.tasks)
