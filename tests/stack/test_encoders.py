"""One embedding model on OpenVINO and on llama.cpp, side by side in one stack."""

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from benchmarks.make_minilm_gguf import write
from embed_worker.discovery import built_in_folder
from tests.running_stack import MINILM, RunningStack

GGUF = "minilm-f16"
ENCODER = "embed_worker.encoder_process"
MOST_BYTES = 250 * 2**20
TEXTS = [f"text {number} about {'the memory of models ' * (number % 9)}" for number in range(64)]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    folder = tmp_path_factory.mktemp("encoders")
    built_in = built_in_folder()
    assert built_in is not None
    write(built_in, folder / "models" / "embedding" / f"{GGUF}.gguf")
    settings = {"MODELS_DIR": str(folder / "models"), "ENABLE_MODEL_CACHE": "0"}
    with RunningStack(folder / "stack.log", **settings) as running:
        yield running


def vectors(stack: RunningStack, model: str, texts: list[str]) -> np.ndarray[tuple[int, int]]:
    reply = stack.http.post("/v1/embeddings", json={"model": model, "input": texts})
    assert reply.status_code == httpx.codes.OK, reply.text
    return np.array([row["embedding"] for row in reply.json()["data"]])


def encoders(stack: RunningStack) -> list[psutil.Process]:
    return stack.find(ENCODER)


def has_torch(process: psutil.Process) -> bool:
    return any(Path(mapped.path).name.startswith("libtorch") for mapped in process.memory_maps())


def test_two_libraries_give_one_models_vectors(both: RunningStack) -> None:
    on_openvino, on_llama_cpp = (vectors(both, model, TEXTS) for model in (MINILM, GGUF))
    assert (on_openvino * on_llama_cpp).sum(axis=1).min() > 0.999


@pytest.mark.skipif(not hasattr(psutil.Process, "memory_maps"), reason="told from its mappings")
def test_an_encoder_is_small_and_holds_no_torch(both: RunningStack) -> None:
    for model in (MINILM, GGUF):
        vectors(both, model, TEXTS)
    found = encoders(both)
    assert len(found) == 2
    for process in found:
        assert not has_torch(process)
        assert process.memory_info().rss <= MOST_BYTES


def test_clients_of_both_models_each_get_their_own_vectors(both: RunningStack) -> None:
    expected = {model: vectors(both, model, TEXTS) for model in (MINILM, GGUF)}
    calls = [(model, index) for index in range(len(TEXTS)) for model in expected]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda call: vectors(both, call[0], [TEXTS[call[1]]])[0], calls))
    for (model, index), vector in zip(calls, found, strict=True):
        assert vector @ expected[model][index] > 0.9999
