"""Conversations of the Responses API, which responses and clients go on."""

from typing import Any

import httpx
import pytest

from tests.contract.responses import ask, said, sdk
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker

CONVERSATIONS = "/v1/conversations"


async def test_a_conversation_grows(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    items = [{"role": "user", "content": "I am Ann"}]
    begun = await gateway.http.post(CONVERSATIONS, json={"items": items, "metadata": {"a": "b"}})
    conversation = begun.json()
    for text in ("one", "two"):
        reply = await ask(gateway, text, conversation={"id": conversation["id"]})
        assert reply["conversation"] == {"id": conversation["id"]}
    assert [text for _, text in said(worker)] == ["I am Ann", "one", "0 1 ", "two"]
    path = f"{CONVERSATIONS}/{conversation['id']}"
    assert (await gateway.http.get(path)).json() == conversation
    page = (await gateway.http.get(f"{path}/items", params={"order": "asc", "limit": 2})).json()
    assert [item["content"] for item in page["data"]] == ["I am Ann", "one"]
    assert page["has_more"] is True
    more = {"order": "asc", "after": page["last_id"]}
    rest = (await gateway.http.get(f"{path}/items", params=more)).json()["data"]
    assert [item["role"] for item in rest] == ["assistant", "user", "assistant"]
    assert (await gateway.http.delete(path)).json()["deleted"] is True
    assert (await gateway.http.get(path)).status_code == 404


async def test_the_sdk_adds_reads_and_removes_items(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    told: list[Any] = [{"role": "user", "content": text} for text in ("I am Ann", "in Oslo")]
    async with sdk(gateway) as client:
        conversation = await client.conversations.create()
        id, items = conversation.id, client.conversations.items
        added = await items.create(id, items=told)
        assert [item.id for item in added.data] == [added.first_id, added.last_id]
        await ask(gateway, "Who am I?", conversation=id)
        assert [text for _, text in said(worker)] == ["I am Ann", "in Oslo", "Who am I?"]
        found = [item async for item in items.list(id, order="asc")]
        assert found[:2] == added.data
        for item in found:
            assert await items.retrieve(str(item.id), conversation_id=id) == item
        for item in (found[0], found[3]):
            assert await items.delete(str(item.id), conversation_id=id) == conversation
        await items.create(id, items=told[:1])
        kept = [item async for item in items.list(id, order="asc")]
        assert kept[:2] == found[1:3]
        assert len({item.id for item in [*found, *kept]}) == 5
    await ask(gateway, [{"type": "item_reference", "id": added.first_id}])
    assert said(worker) == [("user", "I am Ann")]


async def test_the_sdk_changes_what_is_noted_of_a_conversation(gateway: RunningGateway) -> None:
    async with sdk(gateway) as client:
        begun = await client.conversations.create(metadata={"a": "b"})
        changed = await client.conversations.update(begun.id, metadata={"topic": "tea"})
        assert (changed.id, changed.metadata) == (begun.id, {"topic": "tea"})
        assert await client.conversations.retrieve(begun.id) == changed


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_item_that_is_not_there_is_named(gateway: RunningGateway, method: str) -> None:
    begun = (await gateway.http.post(CONVERSATIONS, json={})).json()
    reply = await gateway.http.request(method, f"{CONVERSATIONS}/{begun['id']}/items/item_1")
    assert reply.status_code == httpx.codes.NOT_FOUND
    assert "item_1" in reply.json()["error"]["message"]


async def test_nobody_reaches_anothers_conversation(worker: ScriptedWorker) -> None:
    items = {"items": [{"role": "user", "content": "a secret"}]}
    async with running_gateway([worker], api_keys="ann,bob") as gateway:
        ann, bob = ({"authorization": f"Bearer {key}"} for key in ("ann", "bob"))
        begun = (await gateway.http.post(CONVERSATIONS, json=items, headers=ann)).json()
        path = f"{CONVERSATIONS}/{begun['id']}"
        (item,) = (await gateway.http.get(f"{path}/items", headers=ann)).json()["data"]
        asked: list[tuple[str, str, Any]] = [
            ("GET", "", None),
            ("POST", "", {"metadata": {}}),
            ("DELETE", "", None),
            ("GET", "/items", None),
            ("POST", "/items", items),
            ("GET", f"/items/{item['id']}", None),
            ("DELETE", f"/items/{item['id']}", None),
        ]
        for method, ending, body in asked:
            url = f"{path}{ending}"
            reply = await gateway.http.request(method, url, json=body, headers=bob)
            assert reply.status_code == httpx.codes.NOT_FOUND, (method, ending)
        assert (await gateway.http.get(f"{path}/items", headers=ann)).json()["data"] == [item]
