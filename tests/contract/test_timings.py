"""`timings` as llama-server has them: how many tokens a reply took, and how fast they were."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import PROMPT_TOKENS, delta, finished, started

ASK = {"timings_per_token": True}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"prompt": "x"},
    "/infill": {"input_prefix": "x"},
}
EXPECTED = {
    "cache_n": 2,
    "prompt_n": PROMPT_TOKENS - 2,
    "prompt_ms": 500.0,
    "prompt_per_token_ms": 500.0 / (PROMPT_TOKENS - 2),
    "prompt_per_second": (PROMPT_TOKENS - 2) / 0.5,
    "predicted_n": 2,
    "predicted_ms": 250.0,
    "predicted_per_token_ms": 125.0,
    "predicted_per_second": 8.0,
}


async def two_tokens(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
    yield started(cached_tokens=2)
    yield delta("a")
    yield delta("b")
    end = finished(2, cached=2)
    end.finished.timings.prefill_s, end.finished.timings.decode_s = 0.5, 0.25
    yield end


@pytest.fixture(autouse=True)
def timed_worker(worker: ScriptedWorker) -> None:
    worker.generate = two_tokens


def chunks_of(text: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [orjson.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("path", BODIES)
async def test_a_reply_has_the_timings_that_were_asked_for(
    gateway: RunningGateway, path: str
) -> None:
    reply = await gateway.http.post(path, json=BODIES[path] | ASK)
    assert reply.json()["timings"] == EXPECTED
    assert "x-ignored-parameters" not in reply.headers


@pytest.mark.parametrize("path", BODIES)
async def test_each_chunk_has_timings_and_the_last_those_of_the_worker(
    gateway: RunningGateway, path: str
) -> None:
    reply = await gateway.http.post(path, json=BODIES[path] | ASK | {"stream": True})
    chunks = chunks_of(reply.text)
    if chunks[0].get("object") == "chat.completion.chunk":
        # It comes before anything is computed, and has the role alone.
        assert "timings" not in chunks.pop(0)
    assert chunks[-1]["timings"] == EXPECTED
    assert all(chunk["timings"].keys() == EXPECTED.keys() for chunk in chunks)
    counts = [chunk["timings"]["predicted_n"] for chunk in chunks]
    assert counts == sorted(counts)
    assert 1 in counts


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_the_chunk_with_the_usage_has_timings_too(gateway: RunningGateway, path: str) -> None:
    body = BODIES[path] | ASK | {"stream": True, "stream_options": {"include_usage": True}}
    last = chunks_of((await gateway.http.post(path, json=body)).text)[-1]
    assert (last["choices"], last["timings"]) == ([], EXPECTED)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_who_does_not_ask_gets_what_openai_sends(
    gateway: RunningGateway, path: str, stream: bool
) -> None:
    reply = await gateway.http.post(path, json=BODIES[path] | {"stream": stream})
    assert "timings" not in reply.text


async def test_the_timings_of_several_prompts_are_sums(gateway: RunningGateway) -> None:
    reply = await gateway.http.post("/v1/completions", json={"prompt": ["x", "y"]} | ASK)
    timings = reply.json()["timings"]
    assert (timings["predicted_n"], timings["predicted_ms"]) == (4, 500.0)


async def test_an_api_without_timings_says_that_it_ignores_the_wish(
    gateway: RunningGateway,
) -> None:
    reply = await gateway.http.post("/v1/responses", json={"input": "x"} | ASK)
    assert reply.headers["x-ignored-parameters"] == "timings_per_token"


async def test_a_wish_that_is_no_truth_value_is_refused(gateway: RunningGateway) -> None:
    body = BODIES["/v1/chat/completions"] | {"timings_per_token": "yes"}
    reply = await gateway.http.post("/v1/chat/completions", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "timings_per_token")
