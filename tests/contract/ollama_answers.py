"""Requests and answers in tests of Ollama's API."""

import json
from collections.abc import AsyncIterator
from typing import Any

from protos.y26hkx.v1 import chat_pb2
from tests.contract.worker_scripts import Generate, finished, started

CHAT, GENERATE = "/api/chat", "/api/generate"
HELLO = {"role": "user", "content": "hi"}
TWO = {"num_predict": 2}


def says(*events: chat_pb2.GenerateEvent, reason: str = "REASON_STOP", **begin: Any) -> Generate:
    async def generate(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started(**begin)
        for event in events:
            yield event
        end = finished(len(events), reason=reason)
        end.finished.timings.prefill_s, end.finished.timings.decode_s = 0.25, 0.5
        yield end

    return generate


def lines(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]
