"""Models come, go and come back; a stack of its own, because idle times are short here."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.running_stack import GUIDE, MINILM, RunningStack, wait_until


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    log = tmp_path_factory.mktemp("restless") / "stack.log"
    with RunningStack(log, MODEL_IDLE_TIMEOUT="2", MODEL_UNLOAD_CHECK_INTERVAL="1") as running:
        yield running


def ask(stack: RunningStack, **fields: object) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4} | fields
    return stack.http.post("/v1/chat/completions", json=body)


def test_concurrent_first_requests_share_one_load(restless: RunningStack) -> None:
    wait_until((not restless.find("chat_worker.engine_process") for _ in iter(int, 1)), 15, "idle")
    with ThreadPoolExecutor(6) as pool:
        statuses = [r.status_code for r in pool.map(lambda _: ask(restless), range(6))]
    assert statuses == [httpx.codes.OK] * 6
    assert len(restless.find("chat_worker.engine_process")) == 1


def test_an_idle_model_leaves_and_comes_back(restless: RunningStack) -> None:
    assert ask(restless).status_code == httpx.codes.OK
    assert restless.http.post("/v1/embeddings", json={"input": "hi"}).status_code == 200
    wait_until(
        (
            not restless.find("chat_worker.engine_process")
            and not restless.find("embed_worker.encoder_process")
            for _ in iter(int, 1)
        ),
        15,
        "both engine processes are gone",
    )
    wait_until(
        (
            {restless.models()[m]["state"] for m in (GUIDE, MINILM)} == {"unloaded"}
            for _ in iter(int, 1)
        ),
        5,
        "the gateway knows",
    )
    assert ask(restless).status_code == httpx.codes.OK


def test_an_answer_longer_than_the_idle_time_is_not_cut(restless: RunningStack) -> None:
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 1500,
        "ignore_eos": True,
    }
    with restless.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = [line for line in reply.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    assert '"finish_reason":"length"' in lines[-2]


def test_models_are_loaded_and_unloaded_on_request(restless: RunningStack) -> None:
    loaded = restless.http.post("/v1/models/load", json={"model": GUIDE, "keep_alive": "5m"})
    assert loaded.json() == {"model": GUIDE, "state": "ready", "n_workers": 1}, loaded.text
    assert len(restless.find("chat_worker.engine_process")) == 1
    unloaded = restless.http.post("/v1/models/unload", json={"model": GUIDE}).json()
    assert unloaded["state"] == "unloaded"
    assert unloaded["freed_bytes"] > 10 * 2**20
    assert not restless.find("chat_worker.engine_process")
    unknown = restless.http.post("/v1/models/load", json={"model": "nope"})
    assert unknown.status_code == httpx.codes.NOT_FOUND
    assert unknown.json()["error"]["param"] == "model"
