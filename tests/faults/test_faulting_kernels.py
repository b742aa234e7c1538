"""llama.cpp's products in the processor's own order of weights end the process: models are served
all the same, in plain code, everybody is told, and nobody meets the fault twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from benchmarks.make_minilm_gguf import write
from benchmarks.make_qwen_shape import quantize
from embed_worker.discovery import built_in_folder
from tests.faulting_kernels import faulting_library, require_reached
from tests.running_stack import ROOT, RunningStack, wait_until
from tests.unit.chat_worker.conftest import GUIDE as GUIDE_FILE
from worker_runtime.lifecycle.load_options import WITHOUT_EXTRA_BUFFERS
from worker_runtime.machine.kernel_memory import FILE, KernelMemory
from worker_runtime.machine.kernel_report import run_selftest

CHAT, EMBED = "guide-Q4_K_M", "minilm-Q4_0"
DIED = "its process ended while loading (signal 11 SIGSEGV)"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a chat and an embedding model whose weights llama.cpp puts in order."""
    folder, made = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("made")
    quantize(GUIDE_FILE, folder / f"{CHAT}.gguf", "Q4_K_M")
    built_in = built_in_folder()
    assert built_in is not None
    write(built_in, made / "minilm.gguf")
    (folder / "embedding").mkdir()
    quantize(made / "minilm.gguf", folder / "embedding" / f"{EMBED}.gguf", "Q4_0")
    return folder


@pytest.fixture(scope="module")
def faulting(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a stack whose kernels fail."""
    preload = faulting_library(tmp_path_factory.mktemp("library"))
    environment = dict(os.environ)  # noqa: TID251 - the test is the outermost caller
    require_reached(run_selftest(environment | preload).extra)
    return preload


def chat(stack: RunningStack) -> httpx.Response:
    message = {"role": "user", "content": "What is Y26HKX?"}
    body = {"model": CHAT, "messages": [message], "max_tokens": 8, "temperature": 0}
    return stack.http.post("/v1/chat/completions", json=body)


def embed(stack: RunningStack) -> httpx.Response:
    return stack.http.post("/v1/embeddings", json={"model": EMBED, "input": "hello"})


def test_a_fault_that_no_test_foresaw_is_met_once_and_remembered(
    tmp_path: Path, models: Path, faulting: dict[str, str]
) -> None:
    settings = faulting | {"MODELS_DIR": str(models)}
    # The self-test passed, when the library was another.
    environment = dict(os.environ)  # noqa: TID251 - the test is the outermost caller
    KernelMemory(tmp_path / FILE, lambda: environment).report()
    with RunningStack(tmp_path / "stack.log", **settings) as stack:
        reply = chat(stack)
        assert reply.status_code == httpx.codes.OK, reply.text
        assert reply.json()["choices"][0]["message"]["content"]
        assert reply.headers["x-y26hkx-reduced"] == WITHOUT_EXTRA_BUFFERS
        assert embed(stack).status_code == httpx.codes.OK
        for model in (CHAT, EMBED):
            said = (stack.models()[model]["reductions"] for _ in iter(int, 1))
            wait_until((s == [WITHOUT_EXTRA_BUFFERS] for s in said), 10, f"{model} is reduced")
        assert stack.log.read_text().count(f"{DIED}: trying another option") == 2
    with RunningStack(tmp_path / "second.log", **settings) as stack:
        assert chat(stack).headers["x-y26hkx-reduced"] == WITHOUT_EXTRA_BUFFERS
        assert embed(stack).status_code == httpx.codes.OK
        assert "SIGSEGV" not in stack.log.read_text()
    told = " ".join(str(risk["message"]) for risk in doctor(tmp_path, models)["risks"])
    for model in (CHAT, EMBED):
        assert f"{model} is loaded without llama.cpp's extra CPU buffers, as its process" in told


def test_what_the_self_test_finds_is_never_loaded(
    tmp_path: Path, models: Path, faulting: dict[str, str]
) -> None:
    settings = faulting | {"MODELS_DIR": str(models)}
    with RunningStack(tmp_path / "stack.log", **settings) as stack:
        assert chat(stack).headers["x-y26hkx-reduced"] == WITHOUT_EXTRA_BUFFERS
        log = stack.log.read_text()
        assert "self-test on" in log
        assert "it died of signal 11 SIGSEGV with q4_0" in log
        assert DIED not in log
    report = doctor(tmp_path, models)
    assert "kernels_reduced" in {risk["id"] for risk in report["risks"]}
    (model,) = (model for model in report["models"] if model["id"] == CHAT)
    assert model["reductions"] == [WITHOUT_EXTRA_BUFFERS]


def doctor(learnt: Path, models: Path) -> dict[str, list[dict[str, object]]]:
    added = {"MEMORY_LEARNT_DIR": str(learnt), "MODELS_DIR": str(models), "GATEWAY_PORT": "0"}
    environment = {**os.environ, **added}  # noqa: TID251 - the test is the outermost caller
    command = [sys.executable, "-m", "cli", "doctor", "--json"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    report: dict[str, list[dict[str, object]]] = json.loads(ran.stdout)
    return report
