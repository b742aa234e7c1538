"""The guard: what answers may not say, however it is cut into deltas."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

from protos.y26hkx.v1 import chat_pb2
from tests.contract.guarded_gateway import CHAT, MESSAGES, RESPONSES, chat, guarded, says
from tests.contract.running_gateway import soon
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, delta, finished, started


async def test_a_match_over_deltas_ends_the_answer_before_any_of_it_has_left(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    worker.generate = says("It is the ", "pro", "ject\n", "fal", "con", "", ".", *["x "] * 50)
    async with guarded(worker, tmp_path) as gateway:
        for path, body, ends in (
            (CHAT, chat("hi", stream=True), '"finish_reason":"content_filter"'),
            (CHAT, chat("hi"), '"finish_reason":"content_filter"'),
            ("/v1/completions", {"prompt": "hi"}, '"finish_reason":"content_filter"'),
            (RESPONSES, {"input": "hi", "stream": True}, '"reason":"content_filter"'),
            (MESSAGES, chat("hi", stream=True, model=""), '"stop_reason":"refusal"'),
            ("/api/chat", chat("hi", model=CHAT_ID), '"done_reason":"content_filter"'),
            ("/infill", {"input_prefix": "hi", "input_suffix": ""}, '"stop_type":"limit"'),
        ):
            reply = await gateway.http.post(path, json=body)
            assert reply.status_code == 200
            assert ends in reply.text, (path, reply.text)
            assert "It is the" in reply.text
            assert "ject" not in reply.text.replace("object", "")
            assert "x x" not in reply.text
            await soon(worker.calls[-1].ended.wait())


async def test_an_answer_that_breaks_no_rule_leaves_as_it_is(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    pieces = [f"{n} apples, " for n in range(40)]
    worker.generate = says(*pieces)
    async with guarded(worker, tmp_path) as gateway:
        reply = (await gateway.http.post(CHAT, json=chat("hi"))).json()
    assert reply["choices"][0]["message"]["content"] == "".join(pieces)
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens"] == 40


async def test_reasoning_and_arguments_are_redacted_too(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    async def script(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        call = chat_pb2.ToolCallDelta
        yield started()
        yield delta(reasoning="ask b@")
        yield delta(reasoning="x.org")
        yield delta("I mail b@x.org")
        yield delta(tool_calls=[call(index=0, id="1", name="send", arguments='{"to": "b\\u0040x')])
        yield delta(tool_calls=[call(index=0, arguments='.org", "n": 1}')])
        yield finished(5, 1, "REASON_TOOL_CALLS")

    worker.generate = script
    async with guarded(worker, tmp_path) as gateway:
        reply = (await gateway.http.post(CHAT, json=chat("hi"))).json()
        streamed = (await gateway.http.post(CHAT, json=chat("hi", stream=True))).text
    message = reply["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("ask [mail]", "I mail [mail]")
    (call,) = message["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"to": "[mail]", "n": 1}
    assert reply["choices"][0]["finish_reason"] == "tool_calls"
    assert streamed.count("[mail]") == 3
    assert "x.org" not in streamed


async def test_of_several_choices_only_the_refused_one_ends(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    async def script(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("project falcon is ", 0)
        for text in ("all ", "is ", "well"):
            yield delta(text, 1)
            yield delta(text, 0)
        yield finished(8, 2, "REASON_STOP")

    worker.generate = script
    async with guarded(worker, tmp_path) as gateway:
        reply = (await gateway.http.post(CHAT, json=chat("hi", n=2))).json()
    ends = [(one["message"]["content"], one["finish_reason"]) for one in reply["choices"]]
    assert ends == [("", "content_filter"), ("all is well", "stop")]


async def test_log_probabilities_tell_nothing_that_is_held_back(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    async with guarded(worker, tmp_path) as gateway:
        reply = await gateway.http.post(CHAT, json=chat("hi", logprobs=True))
    assert not worker.calls[-1].request.HasField("top_logprobs")
    assert reply.headers["x-ignored-parameters"] == "logprobs"
