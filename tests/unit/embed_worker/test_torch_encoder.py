"""The sentence-transformers encoder beside the library itself, for other configurations."""

import json
import shutil
from array import array
from pathlib import Path

import numpy as np
import pytest
import torch

from embed_worker.discovery import built_in_folder
from embed_worker.encoders import torch as torch_encoder
from embed_worker.encoders.devices import computing
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.encoders.prompts import Prompts
from embed_worker.engine.call import TOKEN_TYPE, Row
from embed_worker.engine.runner import BatchFailed
from embed_worker.headers import read
from tests.tiny_models import write_embedder
from tests.unit.embed_worker.small_models import make_decoder

TEXTS = ["a short one", "what is the capital of France? " * 5, "模型 café", "prompted " * 300]


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model with other pooling and with prompts that its vectors leave out."""
    built_in = built_in_folder()
    assert built_in is not None
    folder = tmp_path_factory.mktemp("models") / "prompted"
    shutil.copytree(built_in, folder)
    pooling = {
        "word_embedding_dimension": 384,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": True,
        "include_prompt": False,
    }
    write(folder / "1_Pooling" / "config.json", pooling)
    prompts = {"query": "Represent the question: ", "short": "q: "}
    write(
        folder / "config_sentence_transformers.json",
        {"__version__": {}, "prompts": prompts, "default_prompt_name": "short"},
    )
    return folder


@pytest.fixture(scope="module")
def loaded(prompted: Path) -> LoadedEncoder:
    return torch_encoder.load(
        prompted, device="cpu", n_threads=0, on_progress=lambda fraction, stage: None
    )


@pytest.mark.parametrize("prompt_name", ["", "query", "short"])
def test_prompts_and_pooling_are_those_of_the_models_configuration(
    loaded: LoadedEncoder, prompted: Path, prompt_name: str
) -> None:
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(prompted), device="cpu", local_files_only=True)
    prompt = loaded.prompts.text(prompt_name)
    rows = loaded.tokens.rows(TEXTS, prompt=prompt).rows
    vectors = np.frombuffer(loaded.runner.encode(rows), dtype="<f4").reshape(len(TEXTS), -1)
    expected = reference.encode(TEXTS, prompt_name=prompt_name or None)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_empty_prompts_of_the_configuration_are_the_models_and_those_of_the_library_are_not(
    tmp_path: Path,
) -> None:
    config = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": None}
    write_embedder(tmp_path / "said", **config)
    write_embedder(tmp_path / "silent")
    said, silent = (
        torch_encoder.load(
            tmp_path / name, device="cpu", n_threads=0, on_progress=lambda fraction, stage: None
        ).prompts
        for name in ("said", "silent")
    )
    assert said == Prompts({"query": "query: ", "document": ""})
    assert said.text("document") == ""
    assert silent == Prompts({})


def test_a_model_in_a_folder_of_its_own_and_a_bare_one_are_the_same(tmp_path: Path) -> None:
    whole, old, bare = tmp_path / "whole", tmp_path / "old", tmp_path / "bare"
    write_embedder(whole)
    for folder in (old, bare):
        shutil.copytree(whole, folder)
    (old / "0_Transformer").mkdir()
    for file in [path for path in old.iterdir() if path.is_file() and path.name != "modules.json"]:
        file.rename(old / "0_Transformer" / file.name)
    modules = json.loads((old / "modules.json").read_bytes())
    modules[0]["path"] = "0_Transformer"
    write(old / "modules.json", modules)
    (bare / "modules.json").unlink()
    shutil.rmtree(bare / "1_Pooling")
    found = []
    for folder in (whole, old, bare):
        model = torch_encoder.load(
            folder, device="cpu", n_threads=0, on_progress=lambda fraction, stage: None
        )
        assert not read(folder).broken
        rows = model.tokens.rows(["the capital of france", "a"]).rows
        found.append(np.frombuffer(model.runner.encode(rows), "<f4"))
    np.testing.assert_allclose(found[1:], [found[0]] * 2, atol=1e-6)


def test_the_last_token_of_a_bare_decoder_is_its_vector(built_in: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decoder"
    make_decoder(folder, built_in)
    before = torch_encoder.load_model(folder, "cpu").encode(["a text", "another one, longer"])
    (folder / "modules.json").unlink()
    shutil.rmtree(folder / "1_Pooling")
    bare = torch_encoder.load_model(folder, "cpu")
    found = bare.encode(["a text", "another one, longer"], normalize_embeddings=True)
    np.testing.assert_allclose(found, before, atol=1e-5)


def test_texts_with_prompts_of_different_lengths_can_share_a_batch(loaded: LoadedEncoder) -> None:
    names = ["query", "short", "query"]
    rows = [loaded.tokens.rows(["x"], prompt=loaded.prompts.text(n)).rows[0] for n in names]
    together = bytes(loaded.runner.encode(rows))
    alone = b"".join(bytes(loaded.runner.encode([row])) for row in rows)
    np.testing.assert_allclose(
        np.frombuffer(together, "<f4"), np.frombuffer(alone, "<f4"), atol=1e-5
    )


def test_an_error_of_the_library_is_a_failed_batch(loaded: LoadedEncoder) -> None:
    with pytest.raises(BatchFailed):
        loaded.runner.encode([Row(array(TOKEN_TYPE, [101, 10_000_000, 102]))])


def test_a_lost_gpu_is_no_failure_of_the_batch() -> None:
    """Nothing can be computed after it: the process has to end, and another to begin."""
    with pytest.raises(torch.AcceleratorError), computing(lambda: 1):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")


def test_weights_that_are_pickled_are_not_loaded(prompted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(prompted, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        torch_encoder.load(
            folder, device="cpu", n_threads=0, on_progress=lambda fraction, stage: None
        )


def test_each_batch_takes_as_many_threads_as_there_are_cores_then(
    built_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # While this process computes, other programs take cores or leave them free.
    free, used = [2, 1, 2], list[int]()
    monkeypatch.setattr(torch_encoder, "thread_count", lambda configured: lambda: free[len(used)])
    model = torch_encoder.load(built_in, device="cpu", n_threads=0, on_progress=lambda *_: None)
    for _ in free:
        model.runner.encode(model.tokens.rows(["a text"]).rows)
        used.append(torch.get_num_threads())
    assert used == free
