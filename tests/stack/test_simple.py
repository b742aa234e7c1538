"""The simple server: one process, the same routes, engine and lifecycle, no embeddings."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.running_stack import GUIDE, KEPT_VARIABLES, ROOT, free_port, wait_until

READY_WITHIN_S = 60


@contextmanager
def simple_server(log: Path, *command: str) -> Iterator[tuple[psutil.Process, httpx.Client]]:
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if k in KEPT_VARIABLES}  # noqa: TID251 -- the test is the outermost caller
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            cwd=ROOT,
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:

            def ready() -> Iterator[bool]:
                while True:
                    assert process.poll() is None, log.read_text()
                    try:
                        yield http.get("/health/ready").status_code == httpx.codes.OK
                    except httpx.TransportError:
                        yield False

            wait_until(ready(), READY_WITHIN_S, "the simple server is ready")
            yield psutil.Process(process.pid), http
    finally:
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
        process.wait(40)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[psutil.Process, httpx.Client]]:
    log = tmp_path_factory.mktemp("simple") / "log"
    with simple_server(log, "cli", "simple") as running:
        yield running


def test_the_openai_sdk_chats_with_it_plain_and_streamed(
    server: tuple[psutil.Process, httpx.Client],
) -> None:
    _, http = server
    question: Any = [{"role": "user", "content": "What is Y26HKX?"}]
    with openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="x", max_retries=0) as client:
        plain = client.chat.completions.create(model=GUIDE, messages=question, temperature=0)
        chunks = client.chat.completions.create(
            model=GUIDE,
            messages=question,
            temperature=0,
            stream=True,
        )
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "Y26HKX" in streamed
    assert plain.choices[0].message.content == streamed


def test_it_is_one_process_until_a_model_is_loaded_and_after_it_is_unloaded(
    server: tuple[psutil.Process, httpx.Client],
) -> None:
    process, http = server
    http.post("/v1/models/load", json={"model": GUIDE}).raise_for_status()
    assert len(process.children()) == 1
    freed = http.post("/v1/models/unload", json={"model": GUIDE})
    assert freed.json()["freed_bytes"] > 0
    assert process.children() == []
    assert http.get("/v1/models").json()["data"][0]["state"] == "unloaded"


def test_a_client_that_leaves_ends_its_generation(
    server: tuple[psutil.Process, httpx.Client],
) -> None:
    _, http = server
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 400,
        "ignore_eos": True,
        "stream": True,
    }
    with http.stream("POST", "/v1/chat/completions", json=body) as stream:
        next(stream.iter_lines())

    def idle() -> Iterator[bool]:
        while True:
            worker = http.get("/health/detailed").json()["workers"]["chat"][0]
            yield worker["n_active"] == 0 and worker["n_outstanding"] == 0

    wait_until(idle(), 5, "the generation has ended")


def test_errors_have_the_same_shape_and_embeddings_are_not_there(
    server: tuple[psutil.Process, httpx.Client],
) -> None:
    _, http = server
    unknown = http.post(
        "/v1/chat/completions", json={"model": "x", "messages": [{"role": "user", "content": "a"}]}
    )
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert http.post("/v1/embeddings", json={"input": "a"}).status_code == httpx.codes.NOT_FOUND


def test_a_killed_engine_is_an_error_and_the_next_request_works(
    server: tuple[psutil.Process, httpx.Client],
) -> None:
    process, http = server
    http.post("/v1/models/load", json={"model": GUIDE}).raise_for_status()
    (engine,) = process.children()
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 480, "ignore_eos": True}
    with http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as stream:
        lines = stream.iter_lines()
        next(lines)
        engine.kill()
        rest = list(lines)
    assert any('"error"' in line for line in rest)
    assert not any("[DONE]" in line for line in rest)
    again = http.post("/v1/chat/completions", json=body | {"max_tokens": 4})
    assert again.status_code == httpx.codes.OK, again.text


def test_the_app_can_be_served_by_uvicorn_itself(tmp_path: Path) -> None:
    with simple_server(tmp_path / "log", "uvicorn", "simple.app:app") as (_, http):
        started = time.monotonic()
        assert http.get("/health").json()["status"] == "ok"
        assert time.monotonic() - started < READY_WITHIN_S
