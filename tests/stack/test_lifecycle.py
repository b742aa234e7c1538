"""Models come, go and come back; a stack of its own, because idle times are short here."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.running_stack import GUIDE, MINILM, RunningStack, wait_until

HI = [{"role": "user", "content": "hi"}]
CHAT_ENGINE, ENCODER = "chat_worker.engine_process", "embed_worker.encoder_process"


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    log = tmp_path_factory.mktemp("restless") / "stack.log"
    with RunningStack(log, MODEL_IDLE_TIMEOUT="2") as running:
        yield running


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Unloads nothing by itself, but gives caches back; tells waiting streams of a load at once."""
    log = tmp_path_factory.mktemp("patient") / "stack.log"
    with RunningStack(
        log,
        SSE_PROGRESS_AFTER_SECONDS="0",
        SSE_COMMENT_INTERVAL_SECONDS="0.05",
        IDLE_CACHE_SECONDS="1",
        KV_CACHE_DIR=str(log.parent / "kept"),
    ) as running:
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


@pytest.mark.parametrize("force", [False, True])
def test_an_unload_waits_for_what_runs_unless_it_is_forced(
    patient: RunningStack, force: bool
) -> None:
    asked = {"messages": HI, "stream": True, "max_tokens": 1500, "ignore_eos": True}
    unload = {"model": GUIDE, "force": force}
    with (
        ThreadPoolExecutor(1) as pool,
        patient.http.stream("POST", "/v1/chat/completions", json=asked) as reply,
    ):
        events = (line for line in reply.iter_lines() if line.startswith("data: "))
        assert '"role"' in next(events)
        unloading = pool.submit(patient.http.post, "/v1/models/unload", json=unload)
        lines = list(events)
    told = unloading.result(30).json()
    assert told["state"] == "unloaded"
    if force:
        assert (told["waited_for"], told["ended"]) == (0, 1)
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "worker_lost"
    else:
        assert (told["waited_for"], told["ended"]) == (1, 0)
        assert lines[-1] == "data: [DONE]"
        assert '"finish_reason":"length"' in lines[-2]
    assert ask(patient).status_code == httpx.codes.OK


def test_models_are_loaded_and_unloaded_on_request(restless: RunningStack) -> None:
    loaded = restless.http.post("/v1/models/load", json={"model": GUIDE, "keep_alive": "5m"})
    now = loaded.json()
    assert (now["model"], now["state"], now["n_workers"]) == (GUIDE, "ready", 1)
    assert now["resident_bytes"] > 10 * 2**20
    assert 290 < now["expires_in_seconds"] <= 300
    assert len(restless.find("chat_worker.engine_process")) == 1
    unloaded = restless.http.post("/v1/models/unload", json={"model": GUIDE}).json()
    assert unloaded["state"] == "unloaded"
    assert isinstance(unloaded["regained_bytes"], int)
    assert unloaded["freed_bytes"] > 10 * 2**20
    assert not restless.find("chat_worker.engine_process")
    unknown = restless.http.post("/v1/models/load", json={"model": "nope"})
    assert unknown.status_code == httpx.codes.NOT_FOUND
    assert unknown.json()["error"]["param"] == "model"


def gone(stack: RunningStack, module: str) -> Iterator[bool]:
    while True:
        yield not stack.find(module)


@pytest.mark.parametrize(
    ("path", "body", "module"),
    [
        ("/v1/chat/completions", {"messages": HI, "max_tokens": 2}, CHAT_ENGINE),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 2}, CHAT_ENGINE),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 16}, CHAT_ENGINE),
        ("/v1/messages", {"messages": HI, "max_tokens": 2, "model": GUIDE}, CHAT_ENGINE),
        ("/v1/messages/count_tokens", {"messages": HI, "model": GUIDE}, CHAT_ENGINE),
        ("/tokenize", {"prompt": "hi"}, CHAT_ENGINE),
        ("/detokenize", {"tokens": [5]}, CHAT_ENGINE),
        ("/apply-template", {"messages": HI}, CHAT_ENGINE),
        ("/v1/embeddings", {"input": "hi"}, ENCODER),
        ("/v1/rerank", {"query": "hi", "documents": ["a"]}, ENCODER),
        ("/v1/score", {"text_1": "hi", "text_2": "a"}, ENCODER),
        ("/tokenize", {"prompt": "hi", "model": MINILM}, ENCODER),
    ],
)
def test_keep_alive_0_unloads_as_soon_as_the_request_is_over(
    patient: RunningStack, path: str, body: dict[str, object], module: str
) -> None:
    reply = patient.http.post(path, json=body | {"keep_alive": 0})
    assert reply.status_code == httpx.codes.OK, reply.text
    wait_until(gone(patient, module), 15, f"{module} is gone after {path}")


def test_a_pin_holds_until_another_time_is_named(restless: RunningStack) -> None:
    with restless.openai() as client:
        client.embeddings.create(model=MINILM, input="hi", extra_body={"keep_alive": -1})
        (pid,) = [process.pid for process in restless.find(ENCODER)]
        # The chat model goes by its idle time, longer than which the pinned one has been idle then.
        assert ask(restless).status_code == httpx.codes.OK
        wait_until(gone(restless, CHAT_ENGINE), 15, "the idle one is gone")
        client.embeddings.create(model=MINILM, input="hi")
        shown = restless.http.get(f"/v1/models/{MINILM}").json()
        assert (shown["state"], shown["pinned"], shown["expires_in_seconds"]) == (
            "ready",
            True,
            None,
        )
        assert [process.pid for process in restless.find(ENCODER)] == [pid]
        client.embeddings.create(model=MINILM, input="hi", extra_body={"keep_alive": "500ms"})
        wait_until(gone(restless, ENCODER), 15, "the unpinned one is gone")


def test_a_load_is_told_step_by_step(patient: RunningStack) -> None:
    patient.http.post("/v1/models/unload", json={"model": MINILM})
    body = {"model": MINILM, "stream": True}
    with patient.http.stream("POST", "/v1/models/load", json=body) as reply:
        sent = [line for line in reply.iter_lines() if line.startswith("data: ")]
    lines = [line.removeprefix("data: ") for line in sent]
    assert lines.pop() == "[DONE]"
    *steps, last = map(json.loads, lines)
    assert {step["state"] for step in steps} <= {"queued", "loading"}
    assert any(step["stage"] for step in steps)
    assert last["state"] == "ready"
    assert last["seconds"] > 0


def test_a_waiting_stream_hears_of_the_load(patient: RunningStack) -> None:
    patient.http.post("/v1/models/unload", json={"model": GUIDE})
    body = {"messages": HI, "max_tokens": 2, "stream": True}
    with patient.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = list(reply.iter_lines())
    assert any(line.startswith(f": loading {GUIDE}: ") for line in lines)
    assert "data: [DONE]" in lines


def held(stack: RunningStack, model: str) -> int:
    memory = stack.models()[model]["memory"]
    assert isinstance(memory, dict)
    return int(memory["anonymous_bytes"])


def test_an_idle_model_gives_its_caches_back_and_goes_on_from_disk(patient: RunningStack) -> None:
    turn = {"role": "user", "content": "How do I pull a bigger model? " * 8}
    body = {"messages": [turn], "max_tokens": 4, "temperature": 0}
    first = patient.http.post("/v1/chat/completions", json=body).json()
    loaded = patient.http.post("/v1/models/load", json={"model": GUIDE}).json()
    full = loaded["memory"]["anonymous_bytes"]
    wait_until(
        (held(patient, GUIDE) < full - loaded["memory"]["kv_bytes"] for _ in iter(int, 1)),
        15,
        "the cache's memory is back",
    )
    assert patient.models()[GUIDE]["state"] == "ready"
    again = patient.http.post("/v1/chat/completions", json=body).json()
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 32
    assert again["choices"][0]["message"] == first["choices"][0]["message"]
    assert len(patient.find(CHAT_ENGINE)) == 1
