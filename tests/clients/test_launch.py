"""Codex, started by `y26hkx launch`: this server answers, and its own configuration stays."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.y26hkx.v1 import chat_pb2
from tests.clients.installed_clients import INSTALL_WITHIN_S, node_with_clients
from tests.contract.running_gateway import running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import delta, finished, started
from tests.running_stack import KEPT_VARIABLES, ROOT

WITHIN_S = 90
pytestmark = pytest.mark.timeout(INSTALL_WITHIN_S + 2 * WITHIN_S)
OWN = 'model = "of-the-user"\n'


async def answer(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield started()
    yield delta("marmot")
    yield finished(5, reason="REASON_STOP")


async def test_codex_answers_with_the_model_of_this_server(tmp_path: Path) -> None:
    _, folder = node_with_clients()
    (tmp_path / "config.toml").write_text(OWN)
    kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}  # noqa: TID251 - its own
    programs = f"{folder / 'node_modules' / '.bin'}{os.pathsep}{kept.get('PATH', '')}"
    env = kept | {"CODEX_HOME": str(tmp_path), "PATH": programs, "PYTHONPATH": str(ROOT)}
    async with (
        ScriptedWorker(generate=answer) as worker,
        running_gateway([worker]) as gateway,
    ):
        worker.facts = {"context_length": 65_536}
        launched = ("-m", "cli", "launch", "codex", "--server", gateway.base_url, "--")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *launched, "exec", "--skip-git-repo-check", "say"),
            cwd=tmp_path,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WITHIN_S):
            printed, errors = await process.communicate()
    assert process.returncode == 0, printed[-2000:] + errors[-2000:]
    assert b"marmot" in printed
    assert (tmp_path / "config.toml").read_text() == OWN
