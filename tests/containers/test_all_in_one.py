"""The image with the whole stack: one command, and it answers whoever has the key."""

import re
import time

import httpx
import pytest

from tests.containers.composed import docker
from tests.running_stack import free_port

READY_WITHIN_S = 120


@pytest.mark.usefixtures("images")
def test_one_command_runs_the_stack_and_prints_the_key_that_it_needs() -> None:
    port = free_port()
    container = docker("run", "--detach", "--publish", f"127.0.0.1:{port}:8001", "y26hkx").strip()
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while "ready in" not in (said := docker("logs", container)):
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        key = re.search(r"API key +(sk-\w+)", said)
        assert key is not None
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert client.post("/v1/embeddings", json={"input": "x"}).status_code == 401
            client.headers["Authorization"] = f"Bearer {key[1]}"
            assert client.post("/v1/embeddings", json={"input": "x"}).status_code == 200
            messages = [{"role": "user", "content": "How do I unload a model?"}]
            reply = client.post("/v1/chat/completions", json={"messages": messages})
            assert reply.json()["choices"][0]["message"]["content"]
    finally:
        docker("rm", "--force", container)
