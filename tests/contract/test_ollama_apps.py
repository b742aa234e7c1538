"""Requests exactly as apps send them: Open WebUI's connection to Ollama, and Continue."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protos.y26hkx.v1 import worker_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID

NAME = f"{CHAT_ID}:latest"
OPEN_WEBUI_HEADERS = {
    "Content-Type": "application/json",
    "X-OpenWebUI-User-Name": "Some%20One",
    "X-OpenWebUI-Chat-Id": "1",
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
    },
}


@pytest.fixture
async def gateway(worker: ScriptedWorker) -> AsyncIterator[RunningGateway]:
    facts = worker_pb2.ModelFacts(family="qwen2", abilities=["tools", "insert"])
    worker.facts = {"facts": facts, "context_length": 4096}
    async with running_gateway([worker]) as running:
        yield running


async def lines(gateway: RunningGateway, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    reply = await gateway.http.post(path, content=json.dumps(body), headers=OPEN_WEBUI_HEADERS)
    assert reply.status_code == 200, reply.text
    return [json.loads(line) for line in reply.text.splitlines()]


async def test_open_webui_verifies_and_lists(gateway: RunningGateway) -> None:
    version = (await gateway.http.get("/api/version", headers=OPEN_WEBUI_HEADERS)).json()
    assert tuple(map(int, version["version"].split("."))) > (0, 1, 0)
    tags = (await gateway.http.get("/api/tags", headers=OPEN_WEBUI_HEADERS)).json()["models"]
    running = (await gateway.http.get("/api/ps", headers=OPEN_WEBUI_HEADERS)).json()["models"]
    assert {model["model"] for model in tags} == {NAME, f"{EMBED_ID}:latest"}
    assert {model["name"] for model in running} <= {model["name"] for model in tags}
    assert all({"name", "model", "size", "digest", "details"} <= set(model) for model in tags)


async def test_open_webui_chats(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    body = {
        "model": NAME,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi", "images": []},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"index": 0, "id": "call_1", "function": {"name": "look", "arguments": {}}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        ],
        "format": None,
        "options": {
            "temperature": 0.5,
            "num_predict": 2,
            "num_ctx": 2048,
            "num_keep": 24,
            "repeat_last_n": 64,
            "use_mmap": True,
            "tfs_z": 1,
            "mirostat": 0,
            "stop": ["END"],
        },
        "template": None,
        "stream": True,
        "keep_alive": None,
        "tools": [TOOL],
    }
    parts = await lines(gateway, "/api/chat", body)
    assert [part["message"]["content"] for part in parts] == ["0 ", "1 ", ""]
    assert {"total_duration", "eval_count", "eval_duration"} <= set(parts[-1])
    sent = worker.calls[-1].request.conversation
    assert sent.messages[3].tool_call_id == sent.messages[2].tool_calls[0].id == "call_1"


async def test_open_webui_embeds(gateway: RunningGateway) -> None:
    body = {"model": f"{EMBED_ID}:latest", "input": ["a", "b"], "truncate": True}
    (reply,) = await lines(gateway, "/api/embed", body)
    assert [len(row) for row in reply["embeddings"]] == [4, 4]


async def test_continue_learns_the_context_and_that_the_model_fills_in(
    gateway: RunningGateway,
) -> None:
    (shown,) = await lines(gateway, "/api/show", {"name": CHAT_ID})
    assert ".Suffix" in shown["template"]
    (line,) = shown["parameters"].split("\n")
    assert line.split() == ["num_ctx", "4096"]


async def test_continue_chats(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    # JSON.stringify leaves undefined values out.
    body = {
        "model": CHAT_ID,
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "look", "arguments": {"where": "out"}}}],
            },
            {"role": "tool", "content": "sun"},
            {"role": "user", "content": "And?"},
        ],
        "options": {"num_predict": 2, "num_ctx": 8192},
        "keep_alive": 1800,
        "stream": True,
        "tools": [TOOL],
    }
    parts = await lines(gateway, "/api/chat", body)
    assert "".join(part["message"]["content"] for part in parts) == "0 1 "
    sent = worker.calls[-1].request
    assert sent.keep_alive_s == 1800
    messages = sent.conversation.messages
    assert messages[2].tool_call_id == messages[1].tool_calls[0].id != ""


async def test_continue_completes_code(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    body = {
        "model": CHAT_ID,
        "prompt": "def f(",
        "suffix": "\n    return x",
        "raw": True,
        "options": {"temperature": 0.01, "num_predict": 2, "stop": ["\n\n"], "num_ctx": 4096},
        "keep_alive": 1800,
        "stream": True,
    }
    parts = await lines(gateway, "/api/generate", body)
    assert "".join(part["response"] for part in parts) == "0 1 "
    assert worker.calls[-1].request.infill.suffix == "\n    return x"
