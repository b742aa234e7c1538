"""Responses that are kept: gone on from, looked at, forgotten, and hidden from others."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings
from tests.contract.responses import PATH, THINK_SPEAK_CALL, ask, said, sdk
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_goes_on_from_the_one_before(
    gateway: RunningGateway, worker: ScriptedWorker, stream: bool
) -> None:
    async with sdk(gateway) as client:
        previous = None
        for text in ("one", "two", "three"):
            asked: Any = {"input": text, "max_output_tokens": 2, "instructions": f"do {text}"}
            asked |= {"previous_response_id": previous} if previous else {}
            if stream:
                events = await client.responses.create(model="", stream=True, **asked)
                *_, last = [event async for event in events]
                response = last.response
            else:
                response = await client.responses.create(model="", **asked)
            assert response.previous_response_id == previous
            previous = response.id
    answer = ("assistant", "0 1 ")
    assert said(worker) == [
        ("system", "do three"),
        ("user", "one"),
        answer,
        ("user", "two"),
        answer,
        ("user", "three"),
    ]


async def test_calls_and_thoughts_are_kept_and_their_outputs_alone_are_sent(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = THINK_SPEAK_CALL
    first = await ask(gateway)
    outputs = [
        {"type": "function_call_output", "call_id": call, "output": "sun"}
        for call in ("call_a", "call_b")
    ]
    await ask(gateway, outputs, previous_response_id=first["id"])
    conversation = worker.calls[-1].request.conversation
    called = [call.name for message in conversation.messages for call in message.tool_calls]
    assert called == ["weather", "time"]
    assert [m.role for m in conversation.messages][-2:] == ["tool", "tool"]
    assert conversation.messages[1].reasoning == "They ask for two."


async def test_items_can_be_referred_to(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    worker.generate = THINK_SPEAK_CALL
    first = await ask(gateway)
    references = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
    (asked,) = (await gateway.http.get(f"{PATH}/{first['id']}/input_items")).json()["data"]
    outputs = [
        {"type": "function_call_output", "call_id": call, "output": "sun"}
        for call in ("call_a", "call_b")
    ]
    await ask(gateway, [{"id": asked["id"]}, *references, *outputs])
    roles = [role for role, _ in said(worker)]
    assert roles == ["user", "assistant", "tool", "tool"]
    assert said(worker)[0] == ("user", "hi")


async def test_a_response_is_looked_at_and_forgotten(gateway: RunningGateway) -> None:
    first = await ask(gateway, [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    assert first["store"] is True
    path = f"{PATH}/{first['id']}"
    assert (await gateway.http.get(path)).json() == first
    items = (await gateway.http.get(f"{path}/input_items")).json()
    assert [item["content"] for item in items["data"]] == ["b", "a"]
    cancel = await gateway.http.post(f"{path}/cancel")
    assert cancel.status_code == 400
    assert (await gateway.http.get(f"{path}/input_items?limit=0")).status_code == 400
    gone = await gateway.http.delete(path)
    assert gone.json() == {"id": first["id"], "object": "response", "deleted": True}
    gone_too = {"": "GET", "/input_items": "GET", "/cancel": "POST"}
    for ending, method in gone_too.items():
        reply = await gateway.http.request(method, f"{path}{ending}")
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "response_not_found"


async def test_what_is_not_to_be_stored_is_not(gateway: RunningGateway) -> None:
    for stream in (False, True):
        reply = await gateway.http.post(PATH, json={"input": "a", "store": False, "stream": stream})
        id = next(word for word in reply.text.split('"') if word.startswith("resp_"))
        assert (await gateway.http.get(f"{PATH}/{id}")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"previous_response_id": "conv_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "resp_1"}}, "conversation"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "conversation"),
    ],
    ids=str,
)
async def test_what_is_not_kept_is_named_with_a_way_forward(
    gateway: RunningGateway, worker: ScriptedWorker, fields: dict[str, Any], param: str
) -> None:
    for path in (PATH, f"{PATH}/input_tokens"):
        reply = await gateway.http.post(path, json={"input": "hi"} | fields)
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"]["param"] == param
    assert worker.calls == []


async def test_nobody_reaches_anothers_responses(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], api_keys="ann,bob") as gateway:
        ann, bob = ({"authorization": f"Bearer {key}"} for key in ("ann", "bob"))
        first = (await gateway.http.post(PATH, json={"input": "hi"}, headers=ann)).json()
        path = f"{PATH}/{first['id']}"
        assert (await gateway.http.get(path, headers=ann)).status_code == 200
        assert (await gateway.http.get(path, headers=bob)).status_code == 404
        for fields in (
            {"previous_response_id": first["id"]},
            {"input": [{"id": first["output"][0]["id"]}]},
        ):
            for headers, status in ((bob, 400), (ann, 200)):
                body = {"input": "and?"} | fields
                reply = await gateway.http.post(PATH, json=body, headers=headers)
                assert reply.status_code == status, reply.text


async def test_in_a_folder_responses_outlive_the_gateway(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    folder = tmp_path / "responses"
    async with running_gateway([worker], responses_store_path=folder) as gateway:
        first = await ask(gateway, "one")
    async with running_gateway([worker], responses_store_path=folder) as gateway:
        await ask(gateway, "two", previous_response_id=first["id"])
    assert said(worker) == [("user", "one"), ("assistant", "0 1 "), ("user", "two")]


def test_a_file_in_the_folders_place_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValidationError, match="is not a folder"):
        GatewaySettings(_env_file=None, responses_store_path=tmp_path / "file")


async def test_a_store_that_fails_takes_no_answer_away(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    async with running_gateway([worker], responses_store_path=tmp_path) as gateway:
        gateway.services.responses.close()
        reply = await ask(gateway, "one")
        assert reply["output"]
        assert reply["store"] is False
        lost = await gateway.http.get(f"{PATH}/{reply['id']}")
        assert lost.status_code == 500
        assert lost.json()["error"]["code"] == "backend_failure"


async def test_what_goes_on_has_the_tokens_of_all_of_it(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    first = await ask(gateway, "one")
    body = {"input": "two", "previous_response_id": first["id"]}
    reply = await gateway.http.post(f"{PATH}/input_tokens", json=body)
    assert reply.status_code == 200, reply.text
    assert len(worker.calls[-1].request.conversation.messages) == 3
