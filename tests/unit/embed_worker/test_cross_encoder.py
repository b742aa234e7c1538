"""The cross-encoder beside transformers itself."""

import json
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import BackendLoadFailed
from embed_worker.encoders import cross_encoder
from embed_worker.encoders.loaded import LoadedEncoder
from embed_worker.engine.call import TOKEN_TYPE, Row
from embed_worker.engine.runner import BatchFailed
from embed_worker.engine.vectors import numbers, sigmoids
from tests.tiny_models import MAX_TOKENS, write_cross_encoder, write_embedder

QUERY = "what is the capital of france?"
DOCUMENTS = ["paris", "bananas are yellow. [SEP] [CLS]", "who likes cheese? " * 20, "a", "模型 🙂"]
ATOL = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "judge"
    write_cross_encoder(made)
    return made


def load(folder: Path) -> LoadedEncoder:
    return cross_encoder.load(
        folder, device="cpu", n_threads=0, on_progress=lambda fraction, stage: None
    )


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedEncoder:
    return load(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Callable[[list[str]], tuple[list[float], list[int]]]:
    """Scores and token counts as transformers itself computes them."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def scores(documents: list[str]) -> tuple[list[float], list[int]]:
        batch = tokenizer(
            [QUERY] * len(documents),
            documents,
            padding=True,
            truncation="only_second",
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        with torch.inference_mode():
            logits = model(**batch).logits[:, 0].tolist()
        return logits, batch["attention_mask"].sum(dim=1).tolist()

    return scores


def test_scores_and_token_counts_are_those_of_transformers(
    loaded: LoadedEncoder, reference: Callable[[list[str]], tuple[list[float], list[int]]]
) -> None:
    assert loaded.pairs is not None
    found = loaded.pairs.rows([QUERY], DOCUMENTS)
    expected, n_tokens = reference(DOCUMENTS)
    assert np.ptp(expected) > 100 * ATOL
    np.testing.assert_allclose(
        numbers(bytes(loaded.runner.encode(found.rows))), expected, atol=ATOL
    )
    assert [len(row.ids) for row in found.rows] == n_tokens
    assert found.truncated == [2]


def test_a_pair_has_the_same_score_alone_and_among_others(loaded: LoadedEncoder) -> None:
    assert loaded.pairs is not None
    rows = loaded.pairs.rows([QUERY], DOCUMENTS).rows
    together = numbers(bytes(loaded.runner.encode(rows)))
    alone = [numbers(bytes(loaded.runner.encode([row])))[0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=ATOL)


@pytest.mark.parametrize(
    ("said", "activation"),
    [
        ({}, "sigmoid"),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            "identity",
        ),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "identity"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Sigmoid"}}, "sigmoid"),
    ],
)
def test_scores_go_through_the_activation_that_the_model_names(
    tmp_path: Path, said: dict[str, Any], activation: str
) -> None:
    write_cross_encoder(tmp_path, **said)
    assert load(tmp_path).activation == activation


def test_the_newest_place_for_the_activation_goes_first(tmp_path: Path) -> None:
    write_cross_encoder(tmp_path)
    own = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(own))
    assert load(tmp_path).activation == "identity"


def test_an_activation_that_is_not_offered_fails_the_load(tmp_path: Path) -> None:
    write_cross_encoder(tmp_path, sbert_ce_default_activation_function="evil.module.Run")
    with pytest.raises(BackendLoadFailed, match="Run"):
        load(tmp_path)


def test_a_model_with_several_outputs_is_not_loaded(tmp_path: Path) -> None:
    write_cross_encoder(tmp_path, n_labels=2)
    with pytest.raises(BackendLoadFailed, match="2 outputs"):
        load(tmp_path)


def test_a_model_without_the_weights_of_its_score_is_not_loaded(tmp_path: Path) -> None:
    write_embedder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    one_label = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}}
    (tmp_path / "config.json").write_text(json.dumps(config | one_label))
    with pytest.raises(BackendLoadFailed, match="lack weights"):
        load(tmp_path)


def test_an_error_of_the_library_is_a_failed_batch(loaded: LoadedEncoder) -> None:
    with pytest.raises(BatchFailed):
        loaded.runner.encode([Row(array(TOKEN_TYPE, [10_000_000]))])


def test_a_huge_number_has_a_sigmoid_without_a_warning() -> None:
    values = np.array([-1e4, 0, 1e4], dtype="<f4").tobytes()
    assert sigmoids(values) == [0, 0.5, 1]
