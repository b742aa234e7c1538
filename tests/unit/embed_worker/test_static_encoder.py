"""Static embeddings, as model2vec and sentence-transformers write them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer

from common.errors import BackendLoadFailed
from embed_worker.encoders import static
from tests.unit.embed_worker.model_folders import by_id, scan

DIMENSION = 24
N_TOKENS = 30522
TEXTS = ["a", "What is the capital of France?", "模型 🙂 Ünïcödé", "unload " * 900]
random = np.random.default_rng(0)


def vectors(folder: Path, texts: list[str], prompt: str = "") -> NDArray[np.float32]:
    model = static.load(folder)
    rows = model.tokens.rows(texts, prompt=prompt).rows
    return np.frombuffer(model.runner.encode(rows), "<f4").reshape(len(texts), -1)


def table(n_rows: int = N_TOKENS, dtype: str = "f4") -> NDArray[np.float32]:
    return random.normal(size=(n_rows, DIMENSION)).astype(dtype)


def write_model2vec(folder: Path, built_in: Path, **parts: NDArray[Any]) -> None:
    folder.mkdir(parents=True)
    shutil.copy(built_in / "tokenizer.json", folder)
    save_file(parts, folder / "model.safetensors")
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("normalized", [True, False])
def test_vectors_are_those_of_sentence_transformers(
    normalized: bool, built_in: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(built_in / "tokenizer.json"))
    tokenizer.no_truncation()
    modules = [StaticEmbedding(tokenizer, embedding_weights=table())]
    prompts = {"query": "query: "}
    reference = SentenceTransformer(
        modules=[*modules, Normalize()] if normalized else modules, prompts=prompts, device="cpu"
    )
    folder = tmp_path / "embedding" / "lookup"
    reference.save(str(folder))
    entry = by_id(scan(tmp_path))["lookup"]
    assert (entry.backend, entry.broken) == ("static", "")
    for name, prompt in (("", ""), ("query", "query: ")):
        expected = reference.encode(TEXTS, prompt_name=name or None)
        np.testing.assert_allclose(vectors(folder, TEXTS, prompt), expected, atol=1e-6)


def test_a_model2vec_folder_has_shared_and_weighted_rows(built_in: Path, tmp_path: Path) -> None:
    folder = tmp_path / "potion"
    rows, mapping = table(500, "f2"), random.integers(0, 500, N_TOKENS)
    weights = random.random(N_TOKENS).astype("f8")
    write_model2vec(folder, built_in, embeddings=rows, mapping=mapping, weights=weights)
    assert by_id(scan(tmp_path))["potion"].context_length == 512
    tokenizer = Tokenizer.from_file(str(built_in / "tokenizer.json"))
    tokenizer.no_padding()
    ids = tokenizer.encode(TEXTS[1], add_special_tokens=False).ids
    mean = (rows[mapping[ids]].astype("f4") * weights[ids][:, None]).mean(axis=0)
    expected = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(vectors(folder, [TEXTS[1]])[0], expected, atol=1e-4)


def test_unknown_words_are_left_out_of_a_model2vec_mean(built_in: Path, tmp_path: Path) -> None:
    write_model2vec(tmp_path / "potion", built_in, embeddings=table())
    known, mixed, unknown = vectors(tmp_path / "potion", ["cheese", "cheese 🙂", "🙂"])
    np.testing.assert_array_equal(known, mixed)
    assert not unknown.any()


@pytest.mark.parametrize(
    "parts",
    [
        {"other": table(4)},
        {"embeddings": table(4), "mapping": np.array([0, 4])},
        {"embeddings": table(4), "weights": np.ones(3, "f4")},
        {"embeddings": np.ones(4, "f4")},
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    parts: dict[str, NDArray[Any]], built_in: Path, tmp_path: Path
) -> None:
    write_model2vec(tmp_path / "odd", built_in, **parts)
    with pytest.raises(BackendLoadFailed, match="no table"):
        static.load(tmp_path / "odd")


def test_modules_behind_the_table_that_are_not_known_are_named(
    built_in: Path, tmp_path: Path
) -> None:
    write_model2vec(tmp_path / "deep", built_in, embeddings=table(4))
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.{kind}"}
        for number, (path, kind) in enumerate(
            [(".", "models.StaticEmbedding"), ("1_Dense", "models.Dense")]
        )
    ]
    (tmp_path / "deep" / "modules.json").write_text(json.dumps(modules))
    assert "Dense" in by_id(scan(tmp_path))["deep"].broken
