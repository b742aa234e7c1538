"""A stack in front of servers that are not ours: llama-server (LLAMA_SERVER_BIN) and
llama_cpp.server, on the built-in model, so that both ways must give the same answers."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running_stack import GUIDE, ROOT, RunningStack, free_port, wait_until

GGUF = str(ROOT / "models" / "guide" / f"{GUIDE}.gguf")
QUESTION: Any = [{"role": "user", "content": "What is Y26HKX?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Bern", "Oslo"]}},
            "required": ["city"],
        },
    },
}


def llama_server(port: int) -> list[str]:
    binary = os.environ.get("LLAMA_SERVER_BIN")  # noqa: TID251 -- the test is the outermost caller
    if not binary:
        pytest.skip("LLAMA_SERVER_BIN names no llama-server")
    return [binary, "-m", GGUF, "--port", str(port), "-c", "2048", "-np", "1", "-t", "2", "--jinja"]


def llama_cpp_server(port: int) -> list[str]:
    for module in ("sse_starlette", "starlette_context"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"llama_cpp.server needs {module}")
    command = [sys.executable, "-m", "llama_cpp.server", "--model", GGUF]
    return [*command, "--port", str(port), "--n_ctx", "2048", "--host", "127.0.0.1"]


def answers(port: int, process: subprocess.Popen[bytes]) -> Iterator[bool]:
    while True:
        assert process.poll() is None, "the other server ended"
        try:
            yield httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == httpx.codes.OK
        except httpx.TransportError:
            yield False


@pytest.fixture(scope="module", params=[llama_server, llama_cpp_server], ids=lambda c: c.__name__)
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    port = free_port()
    command = request.param(port)
    folder: Path = tmp_path_factory.mktemp("others")
    (folder / "remote.toml").write_text(
        f'[[models]]\nid = "far"\nbase_url = "http://127.0.0.1:{port}/v1"\nmodel = "{GUIDE}"\n'
    )
    with (folder / "other.log").open("wb") as log:
        other = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(answers(port, other), 60, "the other server answers")
        with RunningStack(
            folder / "front.log", REMOTE_MODELS=str(folder / "remote.toml")
        ) as running:
            yield running
    finally:
        other.kill()
        other.wait()


def ask(stack: RunningStack, model: str, **fields: Any) -> Any:
    body: Any = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 30} | fields
    with stack.openai() as client:
        reply = client.chat.completions.create(**body)
        return list(reply) if fields.get("stream") else reply


@pytest.mark.parametrize("fields", [{}, {"stop": ["small"]}, {"max_tokens": 5}], ids=repr)
def test_the_other_server_gives_the_answer_that_is_given_here(
    front: RunningStack, fields: dict[str, Any]
) -> None:
    near, far = (ask(front, model, **fields).choices[0] for model in (GUIDE, "far"))
    assert (far.message.content, far.finish_reason) == (near.message.content, near.finish_reason)
    chunks = ask(front, "far", stream=True, **fields)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == far.message.content


def test_log_probabilities_are_those_that_are_told_here(front: RunningStack) -> None:
    near, far = (
        ask(front, model, logprobs=True, top_logprobs=2, max_tokens=6).choices[0].logprobs.content
        for model in (GUIDE, "far")
    )
    assert [one.token for one in far] == [one.token for one in near]
    assert [one.logprob for one in far] == pytest.approx([one.logprob for one in near], abs=0.05)


def test_a_conversation_with_calls_and_results_is_understood(front: RunningStack) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history = [
        *QUESTION,
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        *QUESTION,
    ]
    assert ask(front, "far", messages=history, tools=[TOOL]).choices[0].message.content


def test_every_api_reaches_it(front: RunningStack) -> None:
    paths: dict[str, dict[str, Any]] = {
        "completions": {"prompt": "Hello", "max_tokens": 3},
        "responses": {"input": "hi", "max_output_tokens": 3},
        "messages": {"messages": QUESTION, "max_tokens": 3},
    }
    for path, body in paths.items():
        reply = front.http.post(f"/v1/{path}", json=body | {"model": "far"})
        assert reply.status_code == httpx.codes.OK, reply.text
