"""A chat model on OpenVINO behind the whole stack, one that transformers runs instead, and one that
is measured on both llama.cpp and OpenVINO."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.running_stack import GUIDE, ROOT, RunningStack, wait_until

FOLDER = ROOT / "models" / "guide" / GUIDE
OTHER = "not-converted"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    place = tmp_path_factory.mktemp("stack")
    other = Path(shutil.copytree(FOLDER, place / "models" / OTHER))
    config = json.loads((other / "config.json").read_text())
    # Qwen 2 with another activation function, which transformers computes.
    (other / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    settings = {
        "MODEL_PATH": str(FOLDER),
        "MODELS_DIR": str(place / "models"),
        "MODEL_BACKEND": "openvino",
        "CONVERTED_MODELS_DIR": str(place / "converted"),
        "MAX_LOADED_MODELS": "2",
    }
    with RunningStack(place / "stack.log", **settings) as running:
        yield running


def ask(stack: RunningStack, name: str) -> str:
    with stack.openai() as client:
        reply = client.chat.completions.create(
            model=name,
            messages=[{"role": "user", "content": "What is Y26HKX?"}],
            max_tokens=40,
            temperature=0,
        )
    return reply.choices[0].message.content or ""


def test_a_folder_of_safetensors_is_converted_and_answers_several_clients_alike(
    stack: RunningStack,
) -> None:
    with ThreadPoolExecutor(4) as clients:
        answers = set(clients.map(lambda _: ask(stack, GUIDE), range(4)))
    assert len(answers) == 1
    assert "Y26HKX" in answers.pop()
    assert stack.models()[GUIDE]["backend"] == "openvino"
    assert stack.models()[GUIDE]["reductions"] == []


def test_what_is_not_converted_answers_through_transformers_which_the_list_says(
    stack: RunningStack,
) -> None:
    ask(stack, OTHER)
    why = ["on transformers, not OpenVINO: its activation function is not converted"]
    assert stack.models()[OTHER]["reductions"] == why


def test_a_gguf_file_is_measured_on_both_backends_while_nobody_asks(tmp_path: Path) -> None:
    settings = {
        "MODEL_PATH": str(FOLDER.with_suffix(".gguf")),
        "MODELS_DIR": str(tmp_path),
        "CONVERTED_MODELS_DIR": str(tmp_path / "converted"),
        "BACKEND_TRIAL_IDLE_S": "0.5",
    }
    with RunningStack(tmp_path / "stack.log", **settings) as stack:
        assert "Y26HKX" in ask(stack, GUIDE)
        first = stack.models()[GUIDE]
        assert (first["backend"], first["backend_reason"]) == ("llama.cpp", None)
        wait_until(
            ((tmp_path / "backends.json").is_file() for _ in iter(int, 1)),
            within_s=90,
            what="both backends to be measured",
        )
        stack.http.post("/v1/models/unload", json={"model": GUIDE}).raise_for_status()
        assert "Y26HKX" in ask(stack, GUIDE)
        assert "OpenVINO was measured here" in str(stack.models()[GUIDE]["backend_reason"])


def test_a_conversation_survives_the_unload_of_its_model_on_openvino(tmp_path: Path) -> None:
    settings = {
        "MODEL_PATH": str(FOLDER.with_suffix(".gguf")),
        "MODELS_DIR": str(tmp_path),
        "MODEL_BACKEND": "openvino",
        "CONVERTED_MODELS_DIR": str(tmp_path / "converted"),
        "KV_CACHE_DIR": str(tmp_path / "kept"),
    }
    question = {"role": "user", "content": "What is Y26HKX, and for whom is it? " * 20}
    body = {"model": GUIDE, "messages": [question], "max_tokens": 8, "temperature": 0}
    with RunningStack(tmp_path / "stack.log", **settings) as stack:
        first = stack.http.post("/v1/chat/completions", json=body).json()
        assert stack.models()[GUIDE]["backend"] == "openvino"
        stack.http.post("/v1/models/unload", json={"model": GUIDE}).raise_for_status()
        second = stack.http.post("/v1/chat/completions", json=body).json()
    assert second["choices"][0]["message"] == first["choices"][0]["message"]
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == second["usage"]["prompt_tokens"] - 1
