"""Models come by name while the server runs, are served at once, and go again."""

import json
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running_stack import GUIDE, ROOT, RunningStack
from tests.stand_in_hub import Fault, Repository, StandInHub, stand_in_hub

GUIDE_FILE = ROOT / "models" / "guide" / f"{GUIDE}.gguf"
ASKED = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def hub() -> Iterator[StandInHub]:
    with stand_in_hub() as running:
        content = GUIDE_FILE.read_bytes()
        running.hugging_face["org/own-GGUF"] = Repository({"own-Q8_0.gguf": content})
        running.hugging_face["org/other"] = Repository({"other-Q8_0.gguf": content})
        yield running


@pytest.fixture(scope="module")
def stack(hub: StandInHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    folder = tmp_path_factory.mktemp("pull")
    (folder / "models").mkdir()
    environment = hub.environment | {"MODELS_DIR": str(folder / "models")}
    with RunningStack(folder / "log", **environment) as running:
        yield running


@pytest.fixture
def models(stack: RunningStack) -> Path:
    return stack.log.parent / "models"


def events(stack: RunningStack, **body: Any) -> list[dict[str, Any]]:
    with stack.http.stream("POST", "/v1/models/pull", json=body | {"stream": True}) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if "data: " in line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def chat(stack: RunningStack, **body: Any) -> httpx.Response:
    asked = {"messages": ASKED, "max_tokens": 4} | body
    return stack.http.post("/v1/chat/completions", json=asked)


def test_a_pulled_model_answers_at_once_is_the_default_and_can_be_deleted(
    stack: RunningStack, models: Path
) -> None:
    assert chat(stack).json()["model"] == GUIDE
    plan = stack.http.post(
        "/v1/models/pull", json={"model": "org/own-GGUF", "plan_only": True}
    ).json()["plan"]
    assert plan["fits"][0]["verdict"] == "fits"
    assert list(models.glob("*.gguf")) == []
    seen = events(stack, model="hf.co/org/own-GGUF:Q8_0")
    assert [seen[0]["status"], seen[1]["status"]] == ["resolving", "planned"]
    assert seen[-1] == seen[-1] | {"status": "done", "model": "own-Q8_0", "is_default": True}
    assert stack.models()["own-Q8_0"]["is_default"]
    assert chat(stack).json()["model"] == "own-Q8_0"
    gone = stack.http.delete("/v1/models/own-Q8_0")
    assert gone.json()["removed"] == ["own-Q8_0.gguf"]
    assert list(models.glob("*.gguf")) == []
    assert "own-Q8_0" not in stack.models()
    assert chat(stack, model="own-Q8_0").status_code == 404
    assert chat(stack).json()["model"] == GUIDE


def test_a_file_that_was_dropped_in_is_served_at_the_next_request(
    stack: RunningStack, models: Path
) -> None:
    file = models / "dropped.gguf"
    file.write_bytes(GUIDE_FILE.read_bytes())
    assert chat(stack, model="dropped").json()["model"] == "dropped"
    file.unlink()
    found = stack.http.post("/v1/models/rescan").json()["models"]
    assert "dropped" not in found
    assert GUIDE in found


def test_a_download_is_cancelled_by_its_client_and_by_others(
    stack: RunningStack, hub: StandInHub, models: Path
) -> None:
    stall = Fault("/cdn/", "stall", 2 << 20)

    def stalled(name: str) -> Generator[str, None, None]:
        """Download; the hub stalls once the plan is made."""
        body = {"model": name, "stream": True}
        with stack.http.stream("POST", "/v1/models/pull", json=body) as reply:
            for line in reply.iter_lines():
                if "planned" in line and stall not in hub.faults:
                    hub.faults.append(stall)
                yield line

    client = stalled("org/other")
    next(line for line in client if "downloading" in line)
    second = stack.http.post("/v1/models/pull", json={"model": "org/own-GGUF"})
    assert second.status_code == 429
    wrong = stack.http.post("/v1/models/pull/cancel", json={"model": "org/own-GGUF"})
    assert wrong.status_code == 400
    ended: list[str] = []
    reading = threading.Thread(target=lambda: ended.extend(client))
    reading.start()
    cancelled = stack.http.post("/v1/models/pull/cancel", json={"model": "org/other"})
    assert cancelled.json() == {"model": "org/other", "cancelled": True}
    reading.join(30)
    assert "cancelled" in ended[-2]
    # The next client leaves.
    hub.faults.clear()
    client = stalled("org/other")
    next(line for line in client if "downloading" in line)
    client.close()
    hub.faults.clear()
    # Its place is free soon, and what had arrived is not lost.
    for _ in range(100):
        reply = stack.http.post("/v1/models/pull", json={"model": "org/other"})
        if reply.status_code != 429:
            break
    assert reply.json()["status"] == "done"
    assert stack.http.delete("/v1/models/other-Q8_0").status_code == 200


def test_a_download_whose_process_dies_is_an_error_and_goes_on_later(
    stack: RunningStack, hub: StandInHub
) -> None:
    body = {"model": "org/other", "stream": True}
    with stack.http.stream("POST", "/v1/models/pull", json=body) as reply:
        lines = reply.iter_lines()
        for line in lines:
            if "planned" in line:
                hub.faults.append(Fault("/cdn/", "stall", 1 << 20))
            if "downloading" in line:
                stack.one("downloads").kill()
                break
        left = [line for line in lines if line]
    assert '"error"' in left[-1]
    assert "[DONE]" not in left[-1]
    hub.faults.clear()
    assert events(stack, model="org/other")[-1]["status"] == "done"
    assert stack.http.delete("/v1/models/other-Q8_0").status_code == 200


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("../../etc/passwd", 400, "does not name a model"),
        ("org/unknown", 404, "no model org/unknown"),
        ("http://169.254.169.254/m.gguf", 400, "without TLS"),
    ],
)
def test_what_cannot_be_pulled_is_an_error_with_its_reason(
    stack: RunningStack, name: str, status: int, words: str
) -> None:
    reply = stack.http.post("/v1/models/pull", json={"model": name})
    assert reply.status_code == status
    assert words in reply.json()["error"]["message"]
    last = events(stack, model=name)[-1]
    assert words in last.get("error", {}).get("message", words)


def test_the_built_in_model_and_unknown_ones_are_not_deleted(stack: RunningStack) -> None:
    assert stack.http.delete(f"/v1/models/{GUIDE}").status_code == 400
    assert GUIDE_FILE.exists()
    assert stack.http.delete("/v1/models/..%2f..%2fetc").status_code == 404
    assert stack.http.delete(f"/v1/models/{GUIDE}?force=perhaps").status_code == 400


def test_a_model_in_use_is_deleted_only_by_force(stack: RunningStack, models: Path) -> None:
    (models / "busy.gguf").write_bytes(GUIDE_FILE.read_bytes())
    body = {"model": "busy", "messages": ASKED, "max_tokens": 2000, "n": 4, "stream": True}
    body |= {"ignore_eos": True}
    with stack.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = reply.iter_lines()
        next(lines)
        refused = stack.http.delete("/v1/models/busy")
        assert refused.status_code == 409
        assert (models / "busy.gguf").exists()
        assert stack.http.delete("/v1/models/busy?force=true").status_code == 200
    assert not (models / "busy.gguf").exists()
