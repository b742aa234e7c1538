"""Batches over OpenAI's SDK: files in, files out, while nobody else asks."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from common import errors
from gateway import idle_time
from gateway.keys.administration import add_key
from gateway.keys.record import Limits, Rights
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, count_up, finished, started

CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def short_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_time, "QUIET_S", 0.01)
    monkeypatch.setattr(idle_time, "LATELY_S", 0.0)


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


async def test_it_runs_only_while_nobody_else_asks(worker: ScriptedWorker, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def waits(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        if request.max_tokens == 99:
            await go_on.wait()
        yield finished(1)

    worker.generate = waits
    async with (
        running_gateway([worker], batches_path=tmp_path / "b") as gateway,
        client_of(gateway) as client,
    ):
        body = {"messages": MESSAGES, "max_tokens": 99}
        person = asyncio.create_task(gateway.http.post(CHAT, json=body))
        await worker.next_call()
        batch = await begin(client, chats(5))
        # Whole requests of others come and go, and none of the batch is made.
        for _ in range(20):
            batch = await client.batches.retrieve(batch.id)
            assert batch.request_counts.completed == 0
        assert len(worker.calls) == 1
        go_on.set()
        assert (await person).status_code == 200
        assert (await over(client, batch.id)).request_counts.completed == 5


async def test_while_people_have_asked_lately_it_makes_one_request_at_a_time(
    worker: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_time, "LATELY_S", 60.0)
    n_running, at_once = 0, []

    async def slow(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        nonlocal n_running
        n_running += 1
        at_once.append(n_running)
        yield started()
        await asyncio.sleep(0.01)
        n_running -= 1
        yield finished(1)

    worker.generate = slow
    async with (
        running_gateway([worker], batches_path=tmp_path / "b") as gateway,
        client_of(gateway) as client,
    ):
        await gateway.http.post(CHAT, json={"messages": MESSAGES})
        at_once.clear()
        assert (await run(client, chats(6))).request_counts.completed == 6
        assert at_once == [1] * 6
        monkeypatch.setattr(idle_time, "LATELY_S", 0.0)
        await run(client, chats(12))
        assert max(at_once) > 1


async def test_a_cancelled_batch_keeps_what_was_answered(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    places = asyncio.Semaphore(3)

    async def some(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        await places.acquire()
        yield started()
        yield finished(1)

    worker.generate = some
    async with (
        running_gateway([worker], batches_path=tmp_path / "b") as gateway,
        client_of(gateway) as client,
    ):
        batch = await begin(client, chats(30))
        store = gateway.services.batches.store
        await until(lambda: store.batches[batch.id].counts.completed == 3)
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        for _ in range(30):
            places.release()
        batch = await over(client, batch.id)
        assert batch.status == "cancelled"
        # Those that were asked already are answered.
        assert 3 <= len(await answers(client, batch.output_file_id)) <= 7
        with pytest.raises(openai.BadRequestError):
            await client.batches.cancel(batch.id)


async def test_a_batch_goes_on_after_a_restart_and_asks_nothing_twice(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    places = asyncio.Semaphore(10)

    async def some(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        await places.acquire()
        async for event in count_up(request):
            yield event

    worker.generate = some
    folder = tmp_path / "b"
    async with (
        running_gateway([worker], batches_path=folder) as gateway,
        client_of(gateway) as client,
    ):
        batch = await begin(client, chats(40))
        store = gateway.services.batches.store
        await until(lambda: store.batches[batch.id].counts.completed == 10)
        output = store.content(store.batches[batch.id].output_file_id)
    # As a gateway leaves it that is killed while it writes.
    with output.open("ab") as file:
        file.write(b'{"custom_id":"r39","resp')
    worker.generate = count_up
    worker.calls.clear()
    async with (
        running_gateway([worker], batches_path=folder) as gateway,
        client_of(gateway) as client,
    ):
        batch = await over(client, batch.id)
        assert (batch.status, batch.request_counts.completed) == ("completed", 40)
        assert len(await answers(client, batch.output_file_id)) == 40
    assert len(worker.calls) == 30


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


async def test_files_and_batches_are_their_keys_and_its_limits_and_rights_hold(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    one = add_key(path, Rights(models=("other",))).text
    other = add_key(path, Rights(chat=Limits(tokens_per_minute=5))).text
    without = add_key(path, Rights(endpoints=("batches",))).text
    async with running_gateway(
        [worker], batches_path=tmp_path / "b", api_keys_file=path
    ) as gateway:
        async with client_of(gateway, one) as client:
            batch = await run(client, chats(1))
            found = await answers(client, batch.error_file_id)
            assert found["r0"]["response"]["status_code"] == 403
        async with client_of(gateway, other) as client:
            with pytest.raises(openai.NotFoundError):
                await client.batches.retrieve(batch.id)
            with pytest.raises(openai.NotFoundError):
                await client.files.content(batch.error_file_id)
            assert [file async for file in client.files.list()] == []
        async with client_of(gateway, without) as client:
            with pytest.raises(openai.PermissionDeniedError):
                await begin(client, chats(1))


async def test_the_disk_that_files_take_is_bounded(worker: ScriptedWorker, tmp_path: Path) -> None:
    settings = {"batches_path": tmp_path / "b", "batches_bytes": 5000, "max_file_bytes": 10_000}
    async with running_gateway([worker], **settings) as gateway, client_of(gateway) as client:
        batch = await run(client, chats(8))
        assert batch.status == "failed"
        assert "at most 5000 bytes" in batch.errors.data[0].message
        for size in (6000, 11_000):
            with pytest.raises(openai.APIStatusError) as refused:
                await client.files.create(file=("in", b"x" * size), purpose="batch")
            assert refused.value.status_code == 413


async def test_without_a_folder_there_are_none_and_the_reply_says_what_to_set(
    gateway: RunningGateway,
) -> None:
    reply = await gateway.http.get("/v1/batches")
    assert reply.status_code == 400
    assert "BATCHES_PATH" in reply.json()["error"]["suggestions"][0]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\nnonsense"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
        ),
    ],
)
async def test_what_is_no_form_with_a_file_is_a_400(
    worker: ScriptedWorker, tmp_path: Path, kind: str, body: bytes
) -> None:
    async with running_gateway([worker], batches_path=tmp_path / "b") as gateway:
        reply: httpx.Response = await gateway.http.post(
            "/v1/files", content=body, headers={"content-type": kind}
        )
        assert reply.status_code == 400, reply.text


async def test_a_second_gateway_leaves_the_folder_to_the_first(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    settings = {"batches_path": tmp_path / "b"}
    async with running_gateway([worker], **settings), running_gateway([worker], **settings) as two:
        assert (await two.http.get("/v1/batches")).status_code == 400
