"""Hostile calls of workers' ports: nothing dies or hangs, and each call has a clear status."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzzing.rpc import fuzz, fuzzed_stack
from tests.running_stack import GUIDE, MINILM, RunningStack

N_CALLS = 120


@pytest.fixture
def stack_and_ports(tmp_path: Path) -> Iterator[tuple[RunningStack, dict[str, int]]]:
    stack, ports = fuzzed_stack(tmp_path / "stack.log")
    with stack:
        yield stack, ports


async def test_workers_survive_what_no_gateway_sends(
    stack_and_ports: tuple[RunningStack, dict[str, int]],
) -> None:
    stack, ports = stack_and_ports
    workers = [stack.one(module).pid for module in ("chat_worker", "embed_worker")]
    found = await fuzz(ports, N_CALLS)
    assert not found.wrong
    assert [stack.one(module).pid for module in ("chat_worker", "embed_worker")] == workers
    chat = {"model": GUIDE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    assert stack.http.post("/v1/chat/completions", json=chat).status_code == 200
    vectors = stack.http.post("/v1/embeddings", json={"model": MINILM, "input": "a"})
    assert vectors.status_code == 200, vectors.text
    assert "y26hkx_engine_crashes_total 0" in stack.http.get("/metrics").text
