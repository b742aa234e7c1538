"""The whole stack where memory is short: models are loaded smaller, and everybody is told."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.make_qwen_shape import quantize
from chat_worker.discovery import ChatModelScan
from chat_worker.load_options import ChatLoadOptions
from chat_worker.settings import ChatSettings
from tests.running_stack import GUIDE, RunningStack
from tests.unit.chat_worker.conftest import GUIDE as GUIDE_FILE
from worker_runtime.lifecycle.load_options import LoadOption

TURN = {"role": "user", "content": "What is Y26HKX?"}
CONTEXT = 2048


def rungs_of(model: str, models: Path, backend: str = "") -> Sequence[LoadOption]:
    """The ways to load `model` with the settings of these tests."""
    settings = ChatSettings(
        models_dir=models,
        model_path=models / "none",
        context_tokens=CONTEXT,
        backend=backend,
        _env_file=None,
    )
    scan = ChatModelScan(settings)
    entry = next(entry for entry in scan().entries if entry.id == model)
    return ChatLoadOptions(scan, settings)(entry)


def stack_for(option: LoadOption, models: Path, log: Path, **env: str) -> RunningStack:
    """One whose limit is just enough for `option`."""
    limit = f"{option.need.total / 2**30 + 1e-6:.9f}"
    settings = {"MODELS_DIR": str(models), "LLAMA_CTX": str(CONTEXT)} | env
    return RunningStack(log, MODEL_MEMORY_LIMIT_GB=limit, **settings)


def chat(stack: RunningStack, model: str) -> httpx.Response:
    body = {"model": model, "messages": [TURN], "max_tokens": 4}
    return stack.http.post("/v1/chat/completions", json=body)


def test_a_model_that_does_not_fit_is_loaded_smaller_and_says_so(tmp_path: Path) -> None:
    option = rungs_of(GUIDE, tmp_path)[-1]
    with stack_for(option, tmp_path, tmp_path / "stack.log") as stack:
        reply = chat(stack, GUIDE)
        assert reply.headers["x-y26hkx-reduced"] == "; ".join(option.reductions)
        assert reply.json()["reduced"] == list(option.reductions)
        long = {"model": GUIDE, "prompt": "long " * CONTEXT, "max_tokens": 4}
        trimmed = stack.http.post("/v1/completions", json=long)
        assert int(trimmed.headers["x-trimmed-tokens"]) > CONTEXT // 2
        assert stack.models()[GUIDE]["reductions"] == list(option.reductions)


def test_a_smaller_file_of_the_model_answers_under_its_own_name(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(GUIDE_FILE, models / "guide-f16.gguf")
    quantize(models / "guide-f16.gguf", models / "guide-Q8_0.gguf", "Q8_0")
    # Less than the larger file takes with all given up that it can.
    *_, option = (r for r in rungs_of("guide-f16", models) if r.entry.id == "guide-Q8_0")
    with stack_for(option, models, tmp_path / "stack.log") as stack:
        reply = chat(stack, "guide-f16").json()
        assert reply["model"] == "guide-Q8_0"
        assert reply["system_fingerprint"] == option.entry.fingerprint
        assert "served by guide-Q8_0, a smaller file of the same model" in reply["reduced"]
        assert stack.models()["guide-f16"]["served_by"] == "guide-Q8_0"


def test_a_transformers_model_is_served_by_its_gguf_where_only_that_fits(tmp_path: Path) -> None:
    options = rungs_of(GUIDE, tmp_path, "transformers")
    option = next(r for r in options if r.entry.backend == "llama.cpp")
    env = {"MODEL_BACKEND": "transformers"}
    with stack_for(option, tmp_path, tmp_path / "stack.log", **env) as stack:
        reply = chat(stack, GUIDE).json()
        assert reply["system_fingerprint"] == option.entry.fingerprint
        assert f"served by {GUIDE}.gguf through llama.cpp" in reply["reduced"]


def test_with_the_ladder_off_it_is_refused_with_the_arithmetic(tmp_path: Path) -> None:
    option = rungs_of(GUIDE, tmp_path)[-1]
    env = {"LOAD_LADDER": "off"}
    with stack_for(option, tmp_path, tmp_path / "stack.log", **env) as stack:
        reply = chat(stack, GUIDE)
        assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE
        error = reply.json()["error"]
        assert (error["code"], error["cause"]) == ("BACKEND_LOAD_FAILED", "memory")
