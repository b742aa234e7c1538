"""llama.cpp beside torch: the same tokens, the same vectors."""

import random
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import BackendLoadFailed, InvalidRequest
from embed_worker.encoders import llama_cpp as llama_encoder
from embed_worker.encoders import torch as torch_encoder
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.engine.call import TOKEN_TYPE, Row
from embed_worker.engine.runner import BatchFailed
from worker_runtime.llama_native import load_native

CHAT_MODEL = Path(__file__).parents[3] / "models" / "guide" / "qwen2-y26hkx-guide.gguf"
# Weights of 16 bits: 0.999993 was measured.
LEAST_COSINE = 0.999
WORDS = ["the", "model", "記憶體", "reads", "café", "memory,", "12345", "[SEP]", "next?", "🙂"]


def load(path: Path) -> LoadedEncoder:
    return llama_encoder.load(
        path, batch_tokens=0, max_rows=8, n_threads=0, on_progress=lambda fraction, stage: None
    )


@pytest.fixture(scope="module")
def loaded(minilm_gguf: Path) -> LoadedEncoder:
    return load(minilm_gguf)


@pytest.fixture(scope="module")
def reference(built_in: Path) -> LoadedEncoder:
    return torch_encoder.load(
        built_in, device="cpu", n_threads=0, on_progress=lambda fraction, stage: None
    )


def mixed_rows(model: LoadedEncoder) -> list[Row]:
    chance = random.Random(5)
    texts = [" ".join(chance.choices(WORDS, k=chance.choice((1, 3, 9, 60)))) for _ in range(30)]
    return model.tokens.rows([*texts, "word " * 400]).rows


def encoded(model: LoadedEncoder, rows: list[Row]) -> NDArray[np.float32]:
    return np.frombuffer(model.runner.encode(rows), "<f4").reshape(len(rows), -1)


def test_tokens_and_vectors_are_those_of_torch(
    loaded: LoadedEncoder, reference: LoadedEncoder
) -> None:
    rows = mixed_rows(loaded)
    assert rows == mixed_rows(reference)
    found, expected = encoded(loaded, rows), encoded(reference, rows)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * expected).sum(axis=1).min() >= LEAST_COSINE


def test_a_text_has_the_same_vector_alone_and_among_others(loaded: LoadedEncoder) -> None:
    rows = mixed_rows(loaded)
    alone = np.concatenate([encoded(loaded, [row]) for row in rows])
    np.testing.assert_allclose(encoded(loaded, rows), alone, atol=1e-3)
    np.testing.assert_allclose(encoded(loaded, rows[::-1])[::-1], alone, atol=1e-3)


def test_special_tokens_that_a_user_types_are_plain_text(loaded: LoadedEncoder) -> None:
    ((first, *inside, last),) = loaded.tokens.ids(["[SEP][CLS]"])
    assert (first, last) == (101, 102)
    assert not {101, 102} & set(inside)


def test_tokens_have_texts_and_can_do_without_special_ones(loaded: LoadedEncoder) -> None:
    ((first, *inside, last),) = loaded.tokens.ids(["hello world"])
    assert loaded.tokens.ids(["hello world"], add_special=False) == [inside]
    pieces = loaded.tokens.pieces([first, *inside, last])
    assert (pieces[0], pieces[-1]) == ("[CLS]", "[SEP]")
    assert ["hello" in pieces[1], "world" in pieces[2]] == [True, True]


def test_token_ids_outside_the_vocabulary_are_refused(loaded: LoadedEncoder) -> None:
    with pytest.raises(InvalidRequest, match="30522"):
        loaded.tokens.rows([[30_522]])


def test_a_row_that_llama_cpp_refuses_is_a_failed_batch(loaded: LoadedEncoder) -> None:
    with pytest.raises(BatchFailed):
        loaded.runner.encode([Row(array(TOKEN_TYPE, [101, 10_000_000, 102]))])
    assert len(encoded(loaded, loaded.tokens.rows(["still there"]).rows)) == 1


def test_a_model_that_does_not_pool_is_not_loaded() -> None:
    with pytest.raises(BackendLoadFailed, match="become one"):
        load(CHAT_MODEL)


def test_a_damaged_file_is_not_loaded(minilm_gguf: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(minilm_gguf.read_bytes()[:-4096])
    with pytest.raises(BackendLoadFailed, match="damaged"):
        load(damaged)


def test_each_batch_takes_as_many_threads_as_there_are_cores_then(
    minilm_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, used = load_native(), list[int]()
    set_threads = native.llama_set_n_threads

    def note(context: Any, n_threads: int, n_batch_threads: int) -> None:
        set_threads(context, n_threads, n_batch_threads)
        used.append(native.llama_n_threads(context))

    # While this process computes, other programs take cores or leave them free.
    free = iter([2, 1, 3])
    monkeypatch.setattr(llama_encoder, "thread_count", lambda configured: free.__next__)
    monkeypatch.setattr(native, "llama_set_n_threads", note)
    model = load(minilm_gguf)  # computes once
    for _ in range(2):
        model.runner.encode(model.tokens.rows(["a text"]).rows)
    assert used == [2, 1, 3]
