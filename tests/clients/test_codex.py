"""Codex CLI, whose prompt is longer than the built-in model's context: the gateway is the real one,
and a scripted worker calls one of the tools that Codex offers."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from protos.y26hkx.v1 import chat_pb2
from tests.clients.installed_clients import INSTALL_WITHIN_S, node_with_clients, version_of_package
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, delta, finished, started
from tests.running_stack import KEPT_VARIABLES

WITHIN_S = 60
pytestmark = pytest.mark.timeout(INSTALL_WITHIN_S + 3 * WITHIN_S)
# The tools with which it runs commands, in its present and in earlier versions.
RUNS = ("exec_command", "shell_command", "shell")


async def call_then_answer(
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[chat_pb2.GenerateEvent]:
    conversation = request.conversation
    yield started()
    if conversation.messages[-1].role == "tool":
        yield delta(f"It says: {conversation.messages[-1].content.split()[-1]}")
        yield finished(5, reason="REASON_STOP")
        return
    tool = next(tool for tool in conversation.tools if tool.name in RUNS)
    properties = json.loads(tool.parameters_json)["properties"]
    command = next(key for key in ("cmd", "command") if key in properties)
    text = "echo marmot"
    value: Any = text.split() if properties[command]["type"] == "array" else text
    piece = chat_pb2.ToolCallDelta(
        index=0, id="call_1", name=tool.name, arguments=json.dumps({command: value})
    )
    yield delta(tool_calls=[piece])
    yield finished(5, reason="REASON_TOOL_CALLS")


@pytest.fixture
async def gateway() -> AsyncIterator[RunningGateway]:
    async with (
        ScriptedWorker(generate=call_then_answer) as worker,
        running_gateway([worker]) as running,
    ):
        yield running


async def codex(gateway: RunningGateway, home: Path, *arguments: str) -> list[dict[str, Any]]:
    """The events that Codex prints."""
    _, folder = node_with_clients()
    program = folder / "node_modules" / ".bin" / ("codex.cmd" if os.name == "nt" else "codex")
    kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}  # noqa: TID251 - its own
    process = await asyncio.create_subprocess_exec(
        str(program),
        "exec",
        *arguments,
        cwd=home,
        env=kept | {"CODEX_HOME": str(home)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WITHIN_S):
        printed, errors = await process.communicate()
    assert process.returncode == 0, printed[-2000:] + errors[-2000:]
    return [json.loads(line) for line in printed.splitlines() if line.startswith(b"{")]


async def test_codex_runs_a_command_and_resumes(
    gateway: RunningGateway, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    (tmp_path / "config.toml").write_text(
        f'model = "{CHAT_ID}"\nmodel_provider = "local"\n'
        '[model_providers.local]\nname = "local"\nwire_api = "responses"\n'
        f'base_url = "{gateway.base_url}/v1"\n'
    )
    options = ("--skip-git-repo-check", "--json", "--dangerously-bypass-approvals-and-sandbox")
    for arguments in (("say",), ("resume", "--last", "again")):
        events = await codex(gateway, tmp_path, *options, *arguments)
        items = [event["item"] for event in events if event["type"] == "item.completed"]
        ran = [item for item in items if item["type"] == "command_execution"]
        assert [item["aggregated_output"].strip() for item in ran] == ["marmot"], events
        said = [item["text"] for item in items if item["type"] == "agent_message"]
        assert said == ["It says: marmot"]
    record_property("codex", f"{version_of_package('@openai/codex')}; 2; 2; yes")
