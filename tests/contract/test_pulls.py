"""Who may let a gateway download and delete models, and what it takes for an answer."""

import pytest

from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID

CHAT = "/v1/chat/completions"
PULL, CANCEL, RESCAN = "/v1/models/pull", "/v1/models/pull/cancel", "/v1/models/rescan"


async def test_nothing_comes_or_goes_where_that_is_off(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], max_pulls=0) as gateway:
        for reply in (
            await gateway.http.post(PULL, json={"model": "org/repo"}),
            await gateway.http.delete(f"/v1/models/{CHAT_ID}"),
        ):
            assert reply.status_code == 403
            assert "y26hkx pull" in reply.json()["error"]["suggestions"][0]
    assert [call for call in worker.calls if "Unload" in str(call)] == []


async def test_a_key_is_needed_for_all_of_it(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], api_keys="secret") as gateway:
        for path in (PULL, CANCEL, RESCAN):
            assert (await gateway.http.post(path, json={"model": "org/repo"})).status_code == 401
        assert (await gateway.http.delete(f"/v1/models/{CHAT_ID}")).status_code == 401


@pytest.mark.parametrize(
    "body", [{}, {"model": ""}, {"model": 7}, {"model": "x" * 600}, {"model": "org/m", "url": "y"}]
)
async def test_a_body_that_says_something_else_is_refused(
    gateway: RunningGateway, body: dict[str, object]
) -> None:
    assert (await gateway.http.post(PULL, json=body)).status_code == 400


async def test_names_that_lead_elsewhere_are_refused_in_the_clients_language(
    gateway: RunningGateway,
) -> None:
    for name in ("../../etc/passwd", "--help", "-y", "file:///etc/passwd", "org/re po\r\nx: y"):
        reply = await gateway.http.post(
            PULL, json={"model": name}, headers={"accept-language": "zh-TW"}
        )
        assert reply.status_code == 400, reply.text
        assert "不是可下載的模型名稱" in reply.json()["error"]["message"]


async def test_what_is_not_being_downloaded_cannot_be_cancelled(gateway: RunningGateway) -> None:
    reply = await gateway.http.post(CANCEL, json={"model": "org/repo"})
    assert reply.status_code == 400
    assert "org/repo" in reply.json()["error"]["message"]


async def test_an_unknown_model_is_not_deleted(gateway: RunningGateway) -> None:
    assert (await gateway.http.delete("/v1/models/unknown")).status_code == 404


async def test_a_name_that_stays_unknown_does_not_keep_the_workers_scanning(
    worker: ScriptedWorker,
) -> None:
    async with running_gateway([worker], unknown_models="default") as gateway:
        body = {"model": "gpt-unknown", "messages": [{"role": "user", "content": "hi"}]}
        for _ in range(30):
            assert (await gateway.http.post(CHAT, json=body)).status_code == 200
        assert 1 <= worker.n_rescans < 10
