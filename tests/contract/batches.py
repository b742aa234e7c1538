"""Batches as OpenAI's SDK sends, awaits and reads them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai

from tests.contract.running_gateway import RunningGateway

CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
MESSAGES: Any = [{"role": "user", "content": "hi"}]


def chats(n: int, **more: Any) -> bytes:
    body = {"messages": MESSAGES, "max_tokens": 2} | more
    return lines(
        {"custom_id": f"r{i}", "method": "POST", "url": CHAT, "body": body} for i in range(n)
    )


def lines(objects: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


@asynccontextmanager
async def client_of(gateway: RunningGateway, key: str = "none") -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.base_url}/v1", api_key=key, max_retries=0
    ) as client:
        yield client


async def run(client: Any, content: bytes, endpoint: str = CHAT) -> Any:
    """The batch when it is over."""
    batch = await begin(client, content, endpoint)
    return await over(client, batch.id)


async def begin(client: Any, content: bytes, endpoint: str = CHAT) -> Any:
    sent = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=sent.id, endpoint=endpoint, completion_window="24h"
    )


async def over(client: Any, batch_id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            batch = await client.batches.retrieve(batch_id)
            if batch.status in ("completed", "failed", "expired", "cancelled"):
                return batch
            await asyncio.sleep(0.02)


async def answers(client: Any, file_id: str) -> dict[str, Any]:
    text = (await client.files.content(file_id)).text
    found = [json.loads(line) for line in text.splitlines()]
    assert len({one["custom_id"] for one in found}) == len(found)
    return {one["custom_id"]: one for one in found}
