"""One stack in front of another: the built-in model of the second one is the first one's remote."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.running_stack import GUIDE, RunningStack, free_port, wait_until

METRICS_PORT = free_port()
KEY = "sk-upstream-secret"
FAR = "far"
# Less than it takes to give up a server that is silent.
SILENCE_S = 10.0
QUESTION: Any = [{"role": "user", "content": "What is Y26HKX?"}]
ON_AND_ON = {
    "model": FAR,
    "messages": [{"role": "user", "content": "Go on for ever"}],
    "stream": True,
    "max_tokens": 1500,
    "ignore_eos": True,
}
ENGINE = "chat_worker.engine_process"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    log: Path = tmp_path_factory.mktemp("upstream") / "upstream.log"
    with RunningStack(log, API_KEYS=KEY) as running:
        running.http.headers["authorization"] = f"Bearer {KEY}"
        yield running


@pytest.fixture(scope="module")
def front(
    upstream: RunningStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    folder: Path = tmp_path_factory.mktemp("front")
    (folder / "key").write_text(KEY)
    (folder / "remote.toml").write_text(
        table(FAR, upstream.base_url, 'api_key_file = "key"')
        + table("keyless", upstream.base_url)
        + table("down", f"http://127.0.0.1:{free_port()}")
    )
    settings = {
        "REMOTE_MODELS": str(folder / "remote.toml"),
        "CHAT_WORKER_METRICS_PORT": str(METRICS_PORT),
    }
    with RunningStack(folder / "front.log", **settings) as running:
        yield running


def table(model: str, url: str, *lines: str) -> str:
    rows = [f'id = "{model}"', f'base_url = "{url}/v1"', f'model = "{GUIDE}"', *lines]
    return "\n".join(["[[models]]", *rows, ""])


def prompt_tokens(stack: RunningStack) -> float:
    """Of the remote model, as its worker counts them."""
    page = httpx.get(f"http://127.0.0.1:{METRICS_PORT}/metrics").text
    found = re.search(rf'^y26hkx_model_prompt_tokens_total{{.*"{FAR}".*}} (.*)$', page, re.M)
    assert found is not None, page
    return float(found[1])


def ask(stack: RunningStack, **fields: Any) -> dict[str, Any]:
    body = {"messages": QUESTION, "temperature": 0} | fields
    reply = stack.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stop": ["serv"]},
        {"max_tokens": 3},
        {"n": 2, "seed": 5, "temperature": 1.0, "max_tokens": 16},
        {"logprobs": True, "top_logprobs": 2, "max_tokens": 4},
        {"response_format": {"type": "json_object"}, "max_tokens": 40},
    ],
)
def test_a_remote_answer_is_the_other_servers_own(
    front: RunningStack, upstream: RunningStack, fields: dict[str, Any]
) -> None:
    near = ask(upstream, model=GUIDE, **fields)
    far = ask(front, model=FAR, **fields)
    assert far["choices"] == near["choices"]
    assert far["model"] == FAR
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert far["usage"][count] == near["usage"][count]


def test_a_stream_through_the_sdk_says_the_same_and_ends_with_the_usage(
    front: RunningStack,
) -> None:
    plain = ask(front, model=FAR)
    with front.openai() as client:
        chunks = list(
            client.chat.completions.create(
                model=FAR,
                messages=QUESTION,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain["choices"][0]["message"]["content"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == plain["usage"]["prompt_tokens"]


def test_forced_tool_calls_come_through_plain_and_streamed(front: RunningStack) -> None:
    parameters = {"type": "object", "properties": {}, "additionalProperties": False}
    tools: Any = [{"type": "function", "function": {"name": "halt", "parameters": parameters}}]
    fields: Any = {"model": FAR, "messages": QUESTION, "tools": tools, "tool_choice": "required"}
    with front.openai() as client:
        reply = client.chat.completions.create(**fields, parallel_tool_calls=False, seed=1)
        chunks = list(client.chat.completions.create(**fields, stream=True, seed=1))
    assert reply.choices[0].finish_reason == "tool_calls"
    (call,) = reply.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {}
    pieces = [piece for c in chunks if c.choices for piece in c.choices[0].delta.tool_calls or []]
    assert pieces[0].function is not None
    assert pieces[0].function.name == "halt"


def test_a_bare_prompt_is_completed_as_there(front: RunningStack, upstream: RunningStack) -> None:
    body = {"prompt": "Y26HKX is", "max_tokens": 6, "temperature": 0, "logprobs": 1}
    near = upstream.http.post("/v1/completions", json=body | {"model": GUIDE}).json()
    far = front.http.post("/v1/completions", json=body | {"model": FAR}).json()
    (here,), (there,) = far["choices"], near["choices"]
    assert here["text"] == there["text"]
    assert here["logprobs"]["tokens"] == there["logprobs"]["tokens"]
    # What is in the prefix cache already is computed in other batches, in other last digits.
    expected = pytest.approx(there["logprobs"]["token_logprobs"], abs=0.01)
    assert here["logprobs"]["token_logprobs"] == expected


def test_the_prompts_tokens_are_counted_once_though_they_are_known_last(
    front: RunningStack,
) -> None:
    before = prompt_tokens(front)
    usage = ask(front, model=FAR)["usage"]
    assert prompt_tokens(front) - before == usage["prompt_tokens"] > 0


def test_a_remote_models_process_is_small_and_is_unloaded_like_any_other(
    front: RunningStack,
) -> None:
    ask(front, model=FAR)
    process = front.one("chat_worker.remote.engine_process")
    assert process.memory_info().rss < 100 * 2**20
    reply = front.http.post("/v1/models/unload", json={"model": FAR})
    assert reply.status_code == httpx.codes.OK, reply.text
    wait_until((not process.is_running() for _ in iter(int, 1)), 10, "the process has ended")
    ask(front, model=FAR)


def test_a_client_that_leaves_stops_the_generation_over_there(
    front: RunningStack, upstream: RunningStack
) -> None:
    with front.http.stream("POST", "/v1/chat/completions", json=ON_AND_ON) as reply:
        next(reply.iter_lines())
    wait_until(
        (upstream.models()[GUIDE]["n_leases"] == 0 for _ in iter(int, 1)), 5, "no lease is held"
    )


def test_what_the_other_server_says_about_a_request_is_passed_on(front: RunningStack) -> None:
    body = {"model": FAR, "messages": QUESTION, "logit_bias": {"9999999": 1}}
    reply = front.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == "logit_bias"
    assert "vocabulary" in error["message"]


def test_a_server_that_is_down_is_a_503_with_a_time_to_come_back(front: RunningStack) -> None:
    reply = front.http.post("/v1/chat/completions", json={"model": "down", "messages": QUESTION})
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert "base_url" in reply.json()["error"]["suggestions"][0]


def test_a_refused_key_is_this_servers_trouble_and_nobody_reads_it(front: RunningStack) -> None:
    reply = front.http.post("/v1/chat/completions", json={"model": "keyless", "messages": QUESTION})
    assert reply.status_code == 503
    assert "key" in reply.json()["error"]["message"]
    assert KEY not in front.log.read_text()


@pytest.mark.parametrize("victim", [ENGINE, "gateway"])
def test_a_server_killed_in_mid_stream_is_an_error_event_at_once(
    front: RunningStack, upstream: RunningStack, victim: str
) -> None:
    lines: list[str] = []
    with front.http.stream("POST", "/v1/chat/completions", json=ON_AND_ON) as reply:
        for line in reply.iter_lines():
            lines.append(line)
            if len(lines) == 10:
                upstream.one(victim).kill()
                killed_s = time.monotonic()
    assert time.monotonic() - killed_s < SILENCE_S
    assert "data: [DONE]" not in lines
    last = [line for line in lines if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "worker_lost"
    upstream.wait_ready()
    ask(front, model=FAR)


def test_the_openai_sdk_raises_what_a_lost_server_means(front: RunningStack) -> None:
    with front.openai() as client, pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="down", messages=QUESTION)
