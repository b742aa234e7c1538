"""Models of other kinds than BERT, made here with random weights: converted, and as torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import (
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from embed_worker.encoders import convert
from embed_worker.encoders import openvino as openvino_encoder
from embed_worker.encoders import torch as torch_encoder
from embed_worker.encoders.conversion_cache import read_record
from embed_worker.encoders.traced_model import UnpaddedModel
from tests.unit.embed_worker.small_models import SHAPE, make

WINDOW = 16
LENGTHS = (1, 3, 9, 60, 200)


@pytest.mark.parametrize(
    ("name", "make_config", "unpadded"),
    [
        ("positions from behind the padding's", lambda: RobertaConfig(**SHAPE), True),
        (
            "attention within a distance",
            lambda: ModernBertConfig(
                **SHAPE, local_attention=WINDOW, pad_token_id=0, sep_token_id=102, cls_token_id=101
            ),
            True,
        ),
        ("positions relative to each other", lambda: MPNetConfig(**SHAPE), False),
    ],
)
def test_vectors_are_those_of_torch_whatever_the_attention(
    name: str,
    make_config: Callable[[], PreTrainedConfig],
    unpadded: bool,
    built_in: Path,
    tmp_path: Path,
) -> None:
    folder, cache = tmp_path / "model", tmp_path / "cache"
    make(folder, built_in, make_config())
    converted = openvino_encoder.load(
        folder, cache=cache, precision="f32", n_threads=0, on_progress=lambda *_: None
    )
    reference = torch_encoder.load(folder, device="cpu", n_threads=0, on_progress=lambda *_: None)
    (kept,) = cache.iterdir()
    record = read_record(kept)
    assert record is not None
    assert record.unpadded == unpadded
    rows = reference.tokens.rows([" ".join(["model", "server"] * n)[: 7 * n] for n in LENGTHS]).rows
    found, expected = (
        np.frombuffer(model.runner.encode(rows), "<f4").reshape(len(rows), -1)
        for model in (converted, reference)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_model_that_does_not_match_without_padding_has_its_own_attention_again_with_it(
    built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "model", tmp_path / "kept"
    make(folder, built_in, RobertaConfig(**SHAPE))
    kept.mkdir()
    monkeypatch.setitem(convert.LEAST_COSINES, UnpaddedModel, 2.0)
    record = convert.convert(folder, kept, lambda *_: None)
    assert not record.unpadded
    assert record.cosines["f32"] > 0.99999
