"""What batches and their files may not do: see others' data, fill the disk, share a folder."""

from pathlib import Path

import httpx
import openai
import pytest

from gateway.keys.administration import add_key
from gateway.keys.record import Limits, Rights
from tests.contract.batches import answers, begin, chats, client_of, run
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker

pytestmark = pytest.mark.usefixtures("short_quiet")


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
