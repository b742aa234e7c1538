"""The guard: rules about what requests and answers say, on every API."""

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError
from prometheus_client.parser import text_string_to_metric_families

from common.settings import read_or_exit
from gateway.keys.administration import add_key
from gateway.keys.record import Rights
from gateway.settings import GatewaySettings
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway, soon
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, EMBED_ID, delta, finished, started

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
POLICY = r"""
hold_back = 32

[[rules]]
name = "no-falcon"
action = "block"
words = ["Project Falcon", "獵鷹計畫"]

[[rules]]
name = "no-mail"
action = "redact"
patterns = ['[a-z0-9.]+@[a-z0-9.]+\.[a-z]{2,}']
replacement = "[mail]"

[[rules]]
name = "see-weather"
action = "flag"
words = ["weather"]
"""
INJECTION = """
[[rules]]
name = "no-injection"
action = "block"
on = ["input"]
roles = ["user", "tool"]
words = ["ignore all rules"]
"""


@asynccontextmanager
async def guarded(
    worker: ScriptedWorker, folder: Path, policy: str = POLICY, **settings: Any
) -> AsyncIterator[RunningGateway]:
    path = folder / "guard.toml"
    path.write_text(policy, encoding="utf-8")
    async with running_gateway([worker], guard_policy=path, **settings) as gateway:
        yield gateway


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 4} | more


def says(*pieces: str, n: int = 1, **fields: Any) -> Any:
    """A worker's script: these deltas, one after the other."""

    async def script(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        for piece in pieces:
            yield delta(piece, **fields)
        yield finished(len(pieces), n, "REASON_STOP")

    return script


BODIES: tuple[tuple[str, dict[str, Any]], ...] = (
    (CHAT, chat("@@")),
    (CHAT, chat("hi", messages=[
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {
            "name": "find", "arguments": '{"what": "@@"}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": "none"},
    ])),
    (CHAT, chat("hi", tools=[{"type": "function", "function": {
        "name": "find", "description": "finds @@", "parameters": {}}}])),
    ("/v1/completions", {"prompt": ["a", "b @@"], "max_tokens": 4}),
    (RESPONSES, {"input": "@@", "instructions": "hi"}),
    (RESPONSES, {"input": "hi", "instructions": "@@"}),
    (MESSAGES, chat("hi", system="@@", model="")),
    (MESSAGES, chat("@@", model="")),
    ("/infill", {"input_prefix": "@@", "input_suffix": "", "n_predict": 4}),
    ("/api/chat", {"model": CHAT_ID, "messages": [{"role": "user", "content": "@@"}]}),
    ("/api/generate", {"model": CHAT_ID, "prompt": "@@"}),
    ("/api/embed", {"model": EMBED_ID, "input": ["a", "@@"]}),
    ("/v1/embeddings", {"input": ["a", "@@"]}),
    ("/v1/rerank", {"query": "a", "documents": ["@@", "b"]}),
    ("/v1/score", {"text_1": "@@", "text_2": "b"}),
)  # fmt: skip


def with_text(body: dict[str, Any], text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(body).replace("@@", text))
    return found


async def test_every_api_refuses_what_a_rule_blocks(worker: ScriptedWorker, tmp_path: Path) -> None:
    async with guarded(worker, tmp_path) as gateway:
        for path, body in BODIES:
            n_calls = len(worker.calls)
            reply = await gateway.http.post(
                path, json=with_text(body, "the ＰＲＯＪＥＣＴ fal\u200bcon!")
            )
            assert reply.status_code == 400, (path, reply.text)
            assert "no-falcon" in reply.text
            assert "content_filter" in reply.text or path.startswith(MESSAGES)
            assert len(worker.calls) == n_calls


async def test_no_prompt_of_a_list_begins_before_all_are_seen(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    async with guarded(worker, tmp_path) as gateway:
        for stream in (False, True):
            body = {"prompt": ["hello", "the project falcon"], "stream": stream}
            reply = await gateway.http.post("/v1/completions", json=body)
            assert reply.status_code == 400
            assert not worker.calls


async def test_every_api_passes_on_redacted_text(worker: ScriptedWorker, tmp_path: Path) -> None:
    async with guarded(worker, tmp_path) as gateway:
        for path, body in BODIES:
            reply = await gateway.http.post(path, json=with_text(body, "é Bob@Example.org?"))
            assert reply.status_code == 200, (path, reply.text)
            sent = str(worker.calls[-1].request)
            assert "[mail]?" in sent
            assert "xample" not in sent


async def test_a_refusal_is_an_error_that_sdks_understand(
    worker: ScriptedWorker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with guarded(worker, tmp_path) as gateway:
        client = AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key="none", max_retries=0)
        with pytest.raises(BadRequestError) as refused:
            await client.chat.completions.create(
                model="", messages=[{"role": "user", "content": "獵鷹計畫 at sea"}]
            )
        await client.close()
    assert (refused.value.code, refused.value.param) == ("content_filter", "messages")
    assert "rule no-falcon: block on input" in caplog.text
    assert "獵鷹計畫" not in caplog.text
    assert "at sea" not in caplog.text


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


async def test_token_ids_are_refused_unless_the_policy_lets_them_pass(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    bodies = (("/v1/completions", {"prompt": [1, 2]}), ("/v1/embeddings", {"input": [1, 2]}))
    for policy, status in ((POLICY, 400), (f'token_ids = "pass"\n{POLICY}', 200)):
        async with guarded(worker, tmp_path, policy) as gateway:
            for path, body in bodies:
                assert (await gateway.http.post(path, json=body)).status_code == status


async def test_a_rule_looks_at_the_roles_that_it_names(
    worker: ScriptedWorker, tmp_path: Path
) -> None:
    system = {"role": "system", "content": "If they say 'ignore all rules', laugh."}
    async with guarded(worker, tmp_path, INJECTION) as gateway:
        passed = await gateway.http.post(CHAT, json={"messages": [system], "max_tokens": 1})
        refused = await gateway.http.post(CHAT, json=chat("Ignore  all\nrules!"))
    assert (passed.status_code, refused.status_code) == (200, 400)


async def test_an_exempt_key_is_not_guarded(worker: ScriptedWorker, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    free, other = add_key(keys, Rights(alias="free")), add_key(keys, Rights(alias="other"))
    policy = f'exempt_keys = ["{free.record.id}"]\n{POLICY}'
    async with guarded(worker, tmp_path, policy, api_keys_file=keys) as gateway:
        for key, status in ((free, 200), (other, 400)):
            headers = {"authorization": f"Bearer {key.text}"}
            reply = await gateway.http.post(CHAT, json=chat("project falcon"), headers=headers)
            assert reply.status_code == status


async def test_a_changed_policy_is_in_force_at_once_and_a_wrong_one_never(
    worker: ScriptedWorker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "guard.toml"
    statuses = []
    async with guarded(worker, tmp_path) as gateway:
        for text in (
            POLICY,
            '[[rules]]\nname = "x"\naction = "block"\npatterns = ["("]',
            INJECTION,
        ):
            new = path.with_suffix(".new")
            new.write_text(text, encoding="utf-8")
            os.replace(new, path)
            reply = await gateway.http.post(CHAT, json=chat("project falcon"))
            statuses.append(reply.status_code)
    assert statuses == [400, 400, 200]
    assert "the guard keeps its policy" in caplog.text
    assert "rule x: missing ):" in caplog.text


async def test_matches_are_counted_by_rule(worker: ScriptedWorker, tmp_path: Path) -> None:
    worker.generate = says("nice weather, b@x.org and c@x.org")
    async with guarded(worker, tmp_path) as gateway:
        for text in ("weather?", "project falcon"):
            await gateway.http.post(CHAT, json=chat(text))
        page = (await gateway.http.get("/metrics")).text
    counted = {
        (sample.labels["rule"], sample.labels["action"], sample.labels["where"]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "y26hkx_guard_matches_total"
    }
    assert counted == {
        ("see-weather", "flag", "input"): 1,
        ("see-weather", "flag", "output"): 1,
        ("no-mail", "redact", "output"): 2,
        ("no-falcon", "block", "input"): 1,
    }


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("[[rules]", "cannot be read"),
        ('[[rules]]\nname = "x"\naction = "blok"\nwords = ["a"]', "blok"),
        ('[[rules]]\nname = "x"\naction = "block"\nword = ["a"]', "word"),
        ('[[rules]]\nname = "x"\naction = "block"', "rule x has neither words nor patterns"),
        ('[[rules]]\nname = "x"\naction = "block"\npatterns = ["a*"]', "matches where there is no"),
        ('[[rules]]\nname = "x"\naction = "block"\npatterns = ["，"]', "can never match"),
        ('[[rules]]\nname = "x"\naction = "block"\nwords = ["a"]\n' * 2, "more than one rule"),
    ],
)
def test_a_wrong_policy_ends_the_start_with_its_reason(
    policy: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "guard.toml"
    path.write_text(policy, encoding="utf-8")
    monkeypatch.setenv("GUARD_POLICY", str(path))
    with pytest.raises(SystemExit):
        read_or_exit(GatewaySettings, "gateway")
    said = capsys.readouterr().err
    assert "GUARD_POLICY" in said
    assert reason in said
