"""Ollama's API about models: lists, details, names that clients make, and the second port."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from gateway.keys.administration import add_key
from gateway.keys.record import Rights
from protos.y26hkx.v1 import chat_pb2, worker_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID
from tests.running_stack import free_port

FACTS = worker_pb2.ModelFacts(
    format="gguf",
    family="qwen2",
    n_parameters=494_032_768,
    quantization="Q4_K_M",
    embedding_length=896,
    trained_context=32_768,
    abilities=["tools", "insert"],
)
HELLO = {"role": "user", "content": "hi"}


@pytest.fixture
async def gateway(worker: ScriptedWorker, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    worker.facts = {"facts": FACTS, "context_length": 4096, "expires_in_s": 60.0, "idle_s": 1.0}
    file = tmp_path / "folder" / "custom.json"
    async with running_gateway([worker], custom_models_file=file) as running:
        yield running


async def names(ollama_client: ollama.AsyncClient) -> list[str | None]:
    return [model.model for model in (await ollama_client.list()).models]


async def test_all_models_are_listed_with_a_tag_and_their_facts(
    ollama_client: ollama.AsyncClient,
) -> None:
    found = {model.model: model for model in (await ollama_client.list()).models}
    assert found.keys() == {f"{CHAT_ID}:latest", f"{EMBED_ID}:latest"}
    details = found[f"{CHAT_ID}:latest"].details
    assert details is not None
    assert (details.format, details.family, details.families) == ("gguf", "qwen2", ["qwen2"])
    assert (details.parameter_size, details.quantization_level) == ("494.03M", "Q4_K_M")
    assert all(len(model.digest or "") == 64 for model in found.values())


async def test_the_loaded_models_say_when_they_leave(ollama_client: ollama.AsyncClient) -> None:
    (model,) = (await ollama_client.ps()).models
    assert (model.model, model.context_length) == (f"{CHAT_ID}:latest", 4096)
    assert model.expires_at is not None


async def test_a_model_is_shown_with_what_it_can(
    ollama_client: ollama.AsyncClient, gateway: RunningGateway
) -> None:
    chat, embed = await ollama_client.show(CHAT_ID), await ollama_client.show(f"{EMBED_ID}:latest")
    assert chat.capabilities == ["completion", "tools", "insert"]
    assert embed.capabilities == ["embedding"]
    assert chat.modelinfo is not None
    assert chat.modelinfo["general.architecture"] == "qwen2"
    assert chat.modelinfo["qwen2.context_length"] == 4096
    assert chat.modelinfo["general.parameter_count"] == 494_032_768
    # Continue takes its context from the parameters, and looks for `.Suffix`.
    assert (chat.parameters or "").split() == ["num_ctx", "4096"]
    assert ".Suffix" in (chat.template or "")
    assert ".Suffix" not in (embed.template or "")
    reply = await gateway.http.post("/api/show", json={"name": CHAT_ID})
    assert reply.json()["capabilities"] == chat.capabilities


async def test_a_name_with_a_system_prompt_and_options_is_made_used_copied_and_deleted(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    made = await ollama_client.create(
        "mario",
        from_=f"{CHAT_ID}:latest",
        system="You are Mario.",
        parameters={"temperature": 0.5, "num_predict": 2, "stop": ["END"]},
        messages=[{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}],
    )
    assert made.status == "success"
    await ollama_client.chat("mario", [HELLO], options={"temperature": 0.25})
    sent = worker.calls[-1].request
    assert (sent.model, sent.sampling.temperature) == (CHAT_ID, 0.25)
    assert (sent.max_tokens, list(sent.stop)) == (2, ["END"])
    assert [m.content for m in sent.conversation.messages] == [
        "You are Mario.",
        "Who?",
        "Me.",
        "hi",
    ]
    own = [{"role": "system", "content": "Be brief."}, HELLO]
    await ollama_client.chat("MARIO:latest", own)
    assert "You are Mario." not in [
        m.content for m in worker.calls[-1].request.conversation.messages
    ]
    await ollama_client.generate("mario", "hi")
    assert worker.calls[-1].request.conversation.messages[0].content == "You are Mario."

    await ollama_client.copy("mario", "luigi")
    assert {"mario:latest", "luigi:latest"} <= set(await names(ollama_client))
    shown = await ollama_client.show("luigi")
    assert 'SYSTEM """You are Mario."""' in (shown.modelfile or "")
    assert 'stop                           "END"' in (shown.parameters or "")
    assert shown.details is not None
    assert shown.details.parent_model == f"{CHAT_ID}:latest"
    await ollama_client.delete("mario")
    await ollama_client.delete("luigi:latest")
    assert set(await names(ollama_client)) == {f"{CHAT_ID}:latest", f"{EMBED_ID}:latest"}


async def test_a_made_name_means_the_same_in_openais_api(
    ollama_client: ollama.AsyncClient, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    options = {"temperature": 0.5, "seed": 7, "num_predict": 3, "stop": ["END"]}
    await ollama_client.create("gpt", from_=CHAT_ID, system="Be brief.", parameters=options)

    async def sent(**fields: Any) -> chat_pb2.GenerateRequest:
        body = {"model": "gpt", "messages": [HELLO]} | fields
        reply = await gateway.http.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text
        found: chat_pb2.GenerateRequest = worker.calls[-1].request
        return found

    plain = await sent()
    assert (plain.model, plain.sampling.temperature, plain.sampling.seed) == (CHAT_ID, 0.5, 7)
    assert (plain.max_tokens, list(plain.stop)) == (3, ["END"])
    assert [m.content for m in plain.conversation.messages] == ["Be brief.", "hi"]
    own = [{"role": "system", "content": "Be long."}, HELLO]
    changed = await sent(messages=own, temperature=0, max_completion_tokens=2)
    assert (changed.sampling.temperature, changed.max_tokens) == (0, 2)
    assert [m.content for m in changed.conversation.messages] == ["Be long.", "hi"]


async def test_one_made_from_a_made_one_inherits(ollama_client: ollama.AsyncClient) -> None:
    await ollama_client.create("a", from_=CHAT_ID, system="A.", parameters={"seed": 1, "top_k": 2})
    await ollama_client.create("b", from_="a", parameters={"seed": 3})
    shown = await ollama_client.show("b")
    assert {line.split()[0]: line.split()[1] for line in (shown.parameters or "").splitlines()} == {
        "seed": "3",
        "top_k": "2",
        "num_ctx": "4096",
    }
    assert 'SYSTEM """A."""' in (shown.modelfile or "")


async def test_a_modelfile_makes_the_same(gateway: RunningGateway) -> None:
    modelfile = f'''
# A comment
FROM ./{CHAT_ID}.gguf
PARAMETER temperature 0.5
PARAMETER top_k 4
PARAMETER stop "<|end|>"
PARAMETER stop END
SYSTEM """You are
Mario."""
MESSAGE user Who?
LICENSE """Free."""
'''
    body = {"name": "mario", "modelfile": modelfile}
    reply = await gateway.http.post("/api/create", json=body)
    assert [json.loads(line)["status"] for line in reply.text.splitlines()][-1] == "success"
    shown = (await gateway.http.post("/api/show", json={"model": "mario"})).json()
    assert (shown["system"], shown["license"]) == ("You are\nMario.", "Free.")
    assert shown["messages"] == [{"role": "user", "content": "Who?"}]
    assert shown["modelfile"].startswith(f"FROM {CHAT_ID}\nPARAMETER temperature 0.5\n")
    assert 'PARAMETER stop "<|end|>"\nPARAMETER stop "END"' in shown["modelfile"]


async def test_made_names_outlive_the_gateway(worker: ScriptedWorker, tmp_path: Path) -> None:
    file = tmp_path / "custom.json"
    body = {"source": CHAT_ID, "destination": "kept"}
    async with running_gateway([worker], custom_models_file=file) as first:
        assert (await first.http.post("/api/copy", json=body)).status_code == 200
        async with running_gateway([worker], custom_models_file=file) as second:
            listed = (await second.http.get("/api/tags")).json()["models"]
            assert "kept:latest" in [model["name"] for model in listed]
            assert (
                await second.http.request("DELETE", "/api/delete", json={"model": "kept"})
            ).status_code == 200
        listed = (await first.http.get("/api/tags")).json()["models"]
        assert "kept:latest" not in [model["name"] for model in listed]


async def test_a_damaged_file_is_neither_used_nor_changed(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    file = tmp_path / "custom.json"
    file.write_text("[{")
    async with running_gateway([worker], custom_models_file=file) as gateway:
        assert len((await gateway.http.get("/api/tags")).json()["models"]) == 2
        body = {"source": CHAT_ID, "destination": "x"}
        reply = await gateway.http.post("/api/copy", json=body)
        assert (reply.status_code, reply.json()["code"]) == (403, "permission_denied")
    assert file.read_text() == "[{"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/api/create", {"model": "x"}, "from"),
        ("/api/create", {"model": "x", "from": CHAT_ID, "template": "{{ .Prompt }}"}, "template"),
        ("/api/create", {"model": "x", "from": CHAT_ID, "files": {"a": "sha256:1"}}, "files"),
        ("/api/create", {"model": "x", "from": CHAT_ID, "quantize": "q4_K_M"}, "quantize"),
        ("/api/create", {"model": CHAT_ID, "from": CHAT_ID}, "model"),
        ("/api/create", {"model": "a\nb", "from": CHAT_ID}, "model"),
        ("/api/create", {"model": "x", "from": CHAT_ID, "parameters": {"a": 1}}, "parameters.a"),
        ("/api/create", {"model": "x", "modelfile": "FRMO y"}, "modelfile"),
        ("/api/create", {"model": "x", "modelfile": 'FROM y\nSYSTEM """a'}, "modelfile"),
        (
            "/api/create",
            {"model": "x", "modelfile": "FROM y\nPARAMETER top_k z"},
            "parameters.top_k",
        ),
        ("/api/create", {"model": "x", "from": CHAT_ID, "system": "a" * 70_000}, "system"),
        ("/api/copy", {"source": CHAT_ID, "destination": f"{CHAT_ID}:latest"}, "destination"),
        ("/api/copy", {"source": CHAT_ID}, "destination"),
        ("/api/show", {}, "model"),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_what_cannot_be_made_is_refused_by_name(
    gateway: RunningGateway, path: str, body: dict[str, Any], param: str
) -> None:
    reply = await gateway.http.post(path, json=body)
    assert (reply.status_code, reply.json()["param"]) == (400, param), reply.text
    assert isinstance(reply.json()["error"], str)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/create", {"model": "x", "from": "../../etc/passwd"}),
        ("/api/copy", {"source": "nobody", "destination": "x"}),
        ("/api/show", {"model": "nobody"}),
        ("/api/chat", {"model": "nobody", "messages": [HELLO]}),
        ("/api/embed", {"model": "nobody", "input": "a"}),
    ],
)
async def test_an_unknown_model_is_a_404_that_names_the_known_ones(
    gateway: RunningGateway, path: str, body: dict[str, Any]
) -> None:
    reply = await gateway.http.post(path, json=body)
    assert (reply.status_code, reply.json()["code"]) == (404, "model_not_found")
    assert EMBED_ID in reply.json()["suggestions"]


async def test_the_second_port_says_that_ollama_is_running_and_is_like_the_first(
    worker: ScriptedWorker,
) -> None:
    port = free_port()
    async with (
        running_gateway([worker], ollama_port=port, api_keys="secret") as gateway,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        assert (await http.get("/api/tags")).status_code == 401
        assert (await http.get("/")).status_code == 401
        key = {"authorization": "Bearer secret"}
        reply = await http.get("/", headers=key)
        assert (reply.status_code, reply.text) == (200, "Ollama is running")
        reply = await http.head("/", headers=key)
        assert (reply.status_code, reply.content) == (200, b"")
        assert (await http.get("/api/tags", headers=key)).json()["models"]
        assert (await http.get("/v1/models", headers=key)).json()["data"]
        first = await gateway.http.get("/", headers=key)
        assert "Ollama" not in first.text


async def test_the_second_port_refuses_foreign_hosts_too(worker: ScriptedWorker) -> None:
    port = free_port()
    async with (
        running_gateway([worker], ollama_port=port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        for path in ("/", "/api/tags"):
            reply = await http.get(path, headers={"host": "evil.example"})
            assert reply.status_code == 403
            assert isinstance(reply.json()["error"], str)


async def test_a_gateway_whose_second_port_is_taken_ends_and_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        own = {"GATEWAY_PORT": str(free_port()), "OLLAMA_COMPAT_PORT": str(port)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway"),
            env={**os.environ, **own},  # noqa: TID251 - the test is the outermost caller
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(30):
            said, _ = await process.communicate()
    assert process.returncode == 1
    assert b"cannot listen" in said
    assert str(port).encode() in said
    assert b"Traceback" not in said


async def test_a_key_sees_only_the_models_that_it_may_use(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    keys, custom = tmp_path / "keys", tmp_path / "custom.json"
    admin = add_key(keys, Rights(admin=True))
    other = add_key(keys, Rights(models=(EMBED_ID,)))
    seen = {}
    async with running_gateway([worker], api_keys_file=keys, custom_models_file=custom) as gateway:
        for name, key in (("admin", admin), ("other", other)):
            http = gateway.http
            http.headers["authorization"] = f"Bearer {key.text}"
            if key is admin:
                await http.post("/api/copy", json={"source": CHAT_ID, "destination": "mine"})
            lists = [(await http.get(path)).json()["models"] for path in ("/api/tags", "/api/ps")]
            shown = await http.post("/api/show", json={"model": CHAT_ID})
            names = [{model["name"] for model in models} for models in lists]
            seen[name] = (*names, shown.status_code)
    chat, embed = f"{CHAT_ID}:latest", f"{EMBED_ID}:latest"
    assert seen["admin"] == ({chat, embed, "mine:latest"}, {chat}, 200)
    assert seen["other"] == ({embed}, set(), 403)
