"""Errors in the client's language, in every shape that errors have."""

from collections.abc import AsyncIterator

import orjson
import pytest

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, ServingError, WorkerLost
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, Generate, delta, finished, started

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
BODY = {"messages": [{"role": "user", "content": "hi"}], "model": CHAT_ID, "max_tokens": 3}
TAIWAN = {"accept-language": "zh-TW,zh;q=0.9,en;q=0.5"}
NO_MEMORY = BackendLoadFailed(
    ErrorText(
        "with_arithmetic",
        failure=ErrorText("lack_memory"),
        need="2,000 MiB",
        available="900 MiB",
        loaded=ErrorText("no_models_loaded"),
    ),
    suggestions=(ErrorText("close_programs"), ErrorText("use_model", model="small")),
    metadata={
        "cause": "memory",
        "reason": "machine_memory",
        "backend": "llama.cpp",
        "needed_bytes": str(2000 << 20),
    },
)


def failing(error: ServingError, *first: chat_pb2.GenerateEvent) -> Generate:
    async def script(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        for event in first:
            yield event
        raise error

    return script


async def test_a_load_without_memory_is_told_in_the_language_asked_for(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = failing(NO_MEMORY)
    reply = await gateway.http.post(CHAT, json=BODY, headers=TAIWAN)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["code"], error["backend"]) == (
        503,
        "resource",
        "BACKEND_LOAD_FAILED",
        "llama.cpp",
    )
    assert error["message"] == (
        "模型/後端載入失敗 (內存或分頁檔不足)：需要約 2,000 MiB，可用 900 MiB；目前沒有已載入的模型"
    )
    assert error["suggestions"] == ["關閉其他程式", "改用模型 small"]
    assert error["needed_bytes"] == str(2000 << 20)
    assert reply.headers["content-language"] == "zh-TW"
    assert "Accept-Language" in reply.headers["vary"]
    english = await gateway.http.post(CHAT, json=BODY)
    assert english.json()["error"]["message"] == NO_MEMORY.message
    assert english.headers["content-language"] == "en"


async def test_anthropic_s_errors_speak_it_too(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = failing(NO_MEMORY)
    reply = await gateway.http.post(MESSAGES, json=BODY, headers=TAIWAN)
    assert reply.json()["error"]["message"].startswith("模型/後端載入失敗")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, BODY),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/responses", {"input": "hi"}),
        (MESSAGES, BODY),
    ],
)
async def test_an_error_in_mid_stream_speaks_it_too(
    gateway: RunningGateway, worker: ScriptedWorker, path: str, body: dict[str, object]
) -> None:
    worker.generate = failing(WorkerLost("the process died"), started(), delta("a"))
    reply = await gateway.http.post(path, json=body | {"stream": True}, headers=TAIWAN)
    assert "工作行程中斷，請重新送出請求：the process died" in reply.text


async def test_wrong_fields_paths_and_models_are_told_with_their_names(
    gateway: RunningGateway,
) -> None:
    wrong = await gateway.http.post(CHAT, json=BODY | {"wrong": 1}, headers=TAIWAN)
    error = wrong.json()["error"]
    assert error["message"] == "不支援的參數：wrong"
    assert error["suggestions"][0].startswith("可用的參數：add_generation_prompt, ")
    typed = await gateway.http.post(CHAT, json=BODY | {"max_tokens": "3"}, headers=TAIWAN)
    assert typed.json()["error"]["message"] == "max_tokens：必須是整數"
    missing = await gateway.http.get("/v1/models/nope", headers=TAIWAN)
    assert missing.json()["error"]["message"].startswith("找不到指定的模型：")
    path = await gateway.http.get("/nowhere", headers=TAIWAN)
    assert path.json()["error"]["message"].startswith("找不到這個路徑：")
    assert path.headers["content-language"] == "zh-TW"


async def test_a_server_set_to_a_language_speaks_it_to_all(worker: ScriptedWorker) -> None:
    for setting, word in (("zh-TW", "不支援的參數"), ("en", "unknown parameter")):
        async with running_gateway([worker], error_language=setting) as gateway:
            for headers in ({}, TAIWAN, {"accept-language": "en"}):
                reply = await gateway.http.post(CHAT, json=BODY | {"wrong": 1}, headers=headers)
                assert reply.json()["error"]["message"].startswith(word)
                assert reply.headers["content-language"] == setting


async def test_answers_are_not_touched(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    async def answers(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        for event in (started(), delta("close other programs"), finished(1)):
            yield event

    worker.generate = answers
    reply = await gateway.http.post(CHAT, json=BODY, headers=TAIWAN)
    assert orjson.loads(reply.content)["choices"][0]["message"]["content"] == "close other programs"
    assert "content-language" not in reply.headers
