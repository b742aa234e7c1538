"""Workers that fail, and what clients are told of it: shared by the tests of failures."""

import json
from collections.abc import AsyncIterator
from typing import Any

from common.errors import ServingError
from protos.y26hkx.v1 import chat_pb2

CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


def raising(error: ServingError) -> Any:
    async def generate(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        raise error
        yield  # a generator

    return generate


def told(reply: Any) -> dict[str, Any]:
    error: dict[str, Any] = reply.json()["error"]
    return error


def last_event(text: str) -> dict[str, Any]:
    lines = [line for line in text.split("\n\n") if line.startswith("data: ")]
    event: dict[str, Any] = json.loads(lines[-1][6:])
    return event
