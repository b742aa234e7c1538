"""What each parameter of Ollama's API becomes for the worker, and which have no effect."""

import json
from typing import Any

import ollama
import pytest

from tests.contract.ollama_answers import CHAT, HELLO, TWO, lines, says
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, delta


async def test_options_become_our_sampling_fields(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    options = {
        "temperature": 1,
        "top_k": 40.0,
        "top_p": 0.5,
        "min_p": 0.25,
        "repeat_penalty": 1.5,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "seed": 7,
        "num_predict": 5,
        "stop": ["\n", "END"],
    }
    await ollama_client.chat(CHAT_ID, [HELLO], options=options, keep_alive="1m30s")
    sent = worker.calls[-1].request
    sampling = sent.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (1, 40, 0.5)
    assert (sampling.min_p, sampling.repetition_penalty, sampling.seed) == (0.25, 1.5, 7)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert (sent.max_tokens, list(sent.stop), sent.keep_alive_s) == (5, ["\n", "END"], 90)


@pytest.mark.parametrize("options", [{}, {"num_predict": -1}, {"num_predict": -2}])
async def test_without_a_limit_an_answer_may_fill_the_context(
    gateway: RunningGateway, worker: ScriptedWorker, options: dict[str, int]
) -> None:
    worker.generate = says(delta("a"))
    body = {"model": CHAT_ID, "messages": [HELLO], "options": options}
    assert (await gateway.http.post(CHAT, json=body)).status_code == 200
    assert not worker.calls[-1].request.HasField("max_tokens")


@pytest.mark.parametrize(
    ("sent", "seconds"), [(0, 0), (-1, -1), ("-1", -1), ("-1m", -60), ("300", 300), (1.5, 1.5)]
)
async def test_keep_alive_takes_numbers_and_durations(
    gateway: RunningGateway, worker: ScriptedWorker, sent: Any, seconds: float
) -> None:
    body = {"model": CHAT_ID, "messages": [HELLO], "keep_alive": sent, "options": TWO}
    assert (await gateway.http.post(CHAT, json=body)).status_code == 200
    assert worker.calls[-1].request.keep_alive_s == seconds


async def test_what_has_no_effect_is_named(worker: ScriptedWorker) -> None:
    worker.facts = {"context_length": 1024}
    body = {
        "model": CHAT_ID,
        "messages": [HELLO | {"mood": "fine"}],
        "options": TWO | {"num_ctx": 4096, "num_gpu": 1, "mirostat": 0},
        "new_field": 1,
    }
    async with running_gateway([worker]) as gateway:
        reply = await gateway.http.post(CHAT, json=body)
        named = reply.headers["x-ignored-parameters"]
        assert named == "mood, new_field, options.num_ctx, options.num_gpu"
        body["options"] = TWO | {"num_ctx": 1024}
        reply = await gateway.http.post(CHAT, json=body)
        assert reply.headers["x-ignored-parameters"] == "mood, new_field"


async def test_a_format_holds_the_answer(
    ollama_client: ollama.AsyncClient, worker: ScriptedWorker
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    await ollama_client.chat(CHAT_ID, [HELLO], format=schema, options=TWO)
    assert json.loads(worker.calls[-1].request.constraint.json_schema) == schema
    await ollama_client.generate(CHAT_ID, "hi", format="json", options=TWO)
    assert worker.calls[-1].request.constraint.json_object
    await ollama_client.generate(CHAT_ID, "hi", format="", options=TWO)
    assert not worker.calls[-1].request.HasField("constraint")


async def test_input_that_may_not_be_cut_is_refused_where_it_would_be(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.generate = says(delta("a"), trimmed_tokens=9, trimmed_messages=1)
    body = {"model": CHAT_ID, "messages": [HELLO]}
    for stream in (True, False):
        asked = body | {"truncate": False, "stream": stream}
        reply = await gateway.http.post(CHAT, json=asked)
        assert (reply.status_code, reply.json()["code"]) == (400, "context_length_exceeded")
    reply = await gateway.http.post(CHAT, json=body)
    assert lines(reply.text)[-1]["trimmed"] is True
