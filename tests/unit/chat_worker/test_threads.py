"""The number of threads may change from step to step."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from chat_worker.backends import threads
from chat_worker.backends.llama_cpp import load as llama_cpp
from chat_worker.backends.llama_cpp.context import LlamaContext
from chat_worker.backends.transformers import load as transformers
from chat_worker.pipe_messages import LoadSpec
from tests.unit.chat_worker.test_runner_contract import (
    TOLERANCE,
    compute,
    llama_runner,
    prompt,
    transformers_runner,
)
from worker_runtime.llama_native import load_native


@pytest.mark.parametrize("name", ["llama.cpp", "transformers"])
def test_an_answer_is_the_same_on_threads_that_come_and_go(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = prompt(5, 80)

    def answer(counts: list[int]) -> list[np.ndarray]:
        asked = itertools.cycle(counts)
        monkeypatch.setattr(llama_cpp, "n_threads", lambda spec, size: asked.__next__)
        monkeypatch.setattr(transformers, "n_threads", lambda spec, size: asked.__next__)
        if name == "llama.cpp":
            runner = llama_runner(request.getfixturevalue("tiny_gguf"), 8 * 512)
        else:
            runner = transformers_runner(request.getfixturevalue("tiny_folder"))
        rows = [compute(runner, tokens[:70], 0)]
        rows += [compute(runner, tokens[:n], 0, n - 1) for n in range(71, 81)]
        runner.close()
        return rows

    for fixed, changing in zip(answer([1]), answer([2, 1, 3]), strict=True):
        np.testing.assert_allclose(changing, fixed, atol=TOLERANCE)


def test_a_context_that_is_made_again_has_the_threads_of_the_last_step(tiny_gguf: Path) -> None:
    native = load_native()
    model = native.llama_model_load_from_file(
        str(tiny_gguf).encode(), native.llama_model_default_params()
    )
    params = native.llama_context_default_params()
    params.n_ctx, params.n_threads = 256, 2
    context = LlamaContext(native, model, params)
    context.compute_with(1)
    assert native.llama_n_threads(context.handle) == native.llama_n_threads_batch(context.handle)
    assert native.llama_n_threads(context.handle) == 1
    context.free()
    assert native.llama_n_threads(context.handle) == 1
    context.free()
    native.llama_model_free(model)


def test_a_number_that_was_set_stays_and_a_tiny_model_has_one_thread() -> None:
    large = threads.TINY_MODEL_BYTES
    spec = LoadSpec(backend="llama.cpp", path="")
    assert threads.n_threads(spec, large - 1)() == 1
    assert threads.n_threads(spec, large)() >= 1
    assert threads.n_threads(LoadSpec(backend="llama.cpp", path="", n_threads=7), 1)() == 7
