"""Batches over OpenAI's SDK: files in, files out, line by line."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from common import errors
from protos.y26hkx.v1 import chat_pb2
from tests.contract.batches import CHAT, EMBED, MESSAGES, answers, chats, client_of, lines, run
from tests.contract.running_gateway import running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, count_up

pytestmark = pytest.mark.usefixtures("short_quiet")


@pytest.fixture
async def client(worker: ScriptedWorker, tmp_path: Path) -> AsyncIterator[Any]:
    async with (
        running_gateway([worker], batches_path=tmp_path / "batches") as gateway,
        client_of(gateway) as found,
    ):
        yield found


async def test_a_batch_of_chats_is_answered_line_by_line(client: Any) -> None:
    batch = await run(client, chats(20))
    assert batch.status == "completed"
    assert (batch.request_counts.total, batch.request_counts.completed) == (20, 20)
    assert batch.error_file_id is None
    found = await answers(client, batch.output_file_id)
    assert set(found) == {f"r{i}" for i in range(20)}
    response = found["r3"]["response"]
    assert response["status_code"] == 200
    assert response["body"]["choices"][0]["message"]["content"] == "0 1 "
    assert response["body"]["model"] == CHAT_ID


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (EMBED, {"input": "hi"}),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 2}),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 2}),
    ],
)
async def test_other_endpoints_can_be_asked_too(client: Any, endpoint: str, body: Any) -> None:
    content = lines([{"custom_id": "a", "method": "POST", "url": endpoint, "body": body}])
    batch = await run(client, content, endpoint)
    assert batch.status == "completed", batch
    found = await answers(client, batch.output_file_id)
    assert found["a"]["response"]["body"]["usage"]


async def test_a_request_that_fails_is_a_line_of_the_error_file(client: Any) -> None:
    content = chats(2) + lines(
        [
            {
                "custom_id": "bad",
                "method": "POST",
                "url": CHAT,
                "body": {"messages": MESSAGES, "top_p": 7},
            }
        ]
    )
    batch = await run(client, content)
    assert batch.status == "completed"
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    found = await answers(client, batch.error_file_id)
    assert found["bad"]["response"]["status_code"] == 400
    assert found["bad"]["response"]["body"]["error"]["param"] == "top_p"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\n\n", "empty_file"),
        (b"{", "invalid_json_line"),
        (b'{"custom_id":"a","url":"/v1/chat/completions"}', "invalid_json_line"),
        (chats(1) * 2, "duplicate_custom_id"),
        (chats(1).replace(CHAT.encode(), b"/v1/admin/keys"), "mismatched_endpoint"),
        (chats(1, stream=True), "stream_not_supported"),
        (b"\xff\xfe\n", "invalid_json_line"),
    ],
)
async def test_a_file_that_cannot_be_run_fails_with_its_line(
    client: Any, content: bytes, code: str
) -> None:
    batch = await run(client, content)
    assert batch.status == "failed"
    assert batch.errors.data[0].code == code
    assert (batch.errors.data[0].line or 1) <= 2


async def test_files_are_listed_read_and_deleted(client: Any) -> None:
    content = chats(3)
    sent = await client.files.create(file=("in.jsonl", content), purpose="batch")
    assert (sent.bytes, sent.filename) == (len(content), "in.jsonl")
    assert [one.id async for one in client.files.list()] == [sent.id]
    assert (await client.files.content(sent.id)).read() == content
    assert (await client.files.delete(sent.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(sent.id)
    for path in ("../lock", "..%2Flock", "x" * 300):
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(path)


async def test_batches_are_listed_by_pages(client: Any) -> None:
    made = {(await run(client, chats(1))).id for _ in range(3)}
    listed = [batch.id async for batch in client.batches.list(limit=2)]
    assert len(listed) == 3
    assert set(listed) == made


async def test_a_busy_worker_is_asked_again(client: Any, worker: ScriptedWorker) -> None:
    n_asked = 0

    async def busy_first(
        request: chat_pb2.GenerateRequest,
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 1:
            raise errors.Overloaded("busy", retry_after_s=1)
        async for event in count_up(request):
            yield event

    worker.generate = busy_first
    batch = await run(client, chats(2))
    assert (batch.status, batch.request_counts.completed) == ("completed", 2)
