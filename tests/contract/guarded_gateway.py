"""A gateway with a guard, and what it is asked and told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import delta, finished, started

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
POLICY = r"""
hold_back = 32

[[rules]]
name = "no-falcon"
action = "block"
words = ["Project Falcon", "獵鷹計畫"]

[[rules]]
name = "no-mail"
action = "redact"
patterns = ['[a-z0-9.]+@[a-z0-9.]+\.[a-z]{2,}']
replacement = "[mail]"

[[rules]]
name = "see-weather"
action = "flag"
words = ["weather"]
"""
INJECTION = """
[[rules]]
name = "no-injection"
action = "block"
on = ["input"]
roles = ["user", "tool"]
words = ["ignore all rules"]
"""


@asynccontextmanager
async def guarded(
    worker: ScriptedWorker, folder: Path, policy: str = POLICY, **settings: Any
) -> AsyncIterator[RunningGateway]:
    path = folder / "guard.toml"
    path.write_text(policy, encoding="utf-8")
    async with running_gateway([worker], guard_policy=path, **settings) as gateway:
        yield gateway


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 4} | more


def says(*pieces: str, n: int = 1, **fields: Any) -> Any:
    """A worker's script: these deltas, one after the other."""

    async def script(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        for piece in pieces:
            yield delta(piece, **fields)
        yield finished(len(pieces), n, "REASON_STOP")

    return script
