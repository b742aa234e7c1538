"""Models of other kinds than BERT, made here with random weights: converted, and as torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from transformers import (
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    Qwen3Config,
    RobertaConfig,
)

from embed_worker.encoders import convert
from embed_worker.encoders import openvino as openvino_encoder
from embed_worker.encoders import torch as torch_encoder
from embed_worker.encoders.batch_inputs import batch_inputs
from embed_worker.encoders.conversion_cache import CONVERSIONS
from embed_worker.encoders.traced_model import UnpaddedModel
from embed_worker.engine.vectors import unit
from tests.unit.embed_worker.small_models import SHAPE, forget_limits, make, make_decoder
from worker_runtime.model_files.folders import read_sentence_encoder

WINDOW = 16
LENGTHS = (1, 3, 9, 60, 200)


@pytest.mark.usefixtures("converts_here")
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
        (
            "no sight of what follows, and keys shared by heads",
            lambda: Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=16, pad_token_id=0),
            True,
        ),
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
    (kept,) = (path for path in cache.iterdir() if path.is_dir())
    record = CONVERSIONS.read(kept)
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


@pytest.mark.parametrize("unpadded", [True, False])
def test_a_decoder_padded_on_the_left_has_the_librarys_vectors_at_every_length_and_batch(
    unpadded: bool, built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "model", tmp_path / "kept"
    make_decoder(folder, built_in)
    kept.mkdir()
    if not unpadded:
        monkeypatch.setitem(convert.LEAST_COSINES, UnpaddedModel, 2.0)
    record = convert.convert(folder, kept, lambda *_: None)
    assert record.unpadded == unpadded
    inputs = batch_inputs(record)
    encoder = openvino_encoder.OpenVinoEncoder(
        openvino_encoder.compiled(kept, "f32", inputs, n_threads=0), inputs
    )
    library = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    texts = [" ".join(["model", "server"] * n)[: 7 * n] for n in LENGTHS]
    expected = library.encode(texts, normalize_embeddings=True)
    reference = torch_encoder.loaded(library)
    rows = reference.tokens.rows(texts).rows
    for batch in (rows, rows[:2], rows[1:4], *([row] for row in rows)):
        found = unit(np.frombuffer(encoder.encode(batch), "<f4").reshape(len(batch), -1))
        wanted = expected[[rows.index(row) for row in batch]]
        assert (found * wanted).sum(axis=1).min() >= 0.9999


def test_positions_that_begin_behind_the_paddings_cut_texts_and_fail_none(
    built_in: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    make(folder, built_in, RobertaConfig(**(SHAPE | {"max_position_embeddings": 34})))
    forget_limits(folder)
    model = torch_encoder.load(folder, device="cpu", n_threads=0, on_progress=lambda *_: None)
    assert model.tokens.max_tokens == 32
    found = model.tokens.rows(["word " * 200])
    assert found.truncated == [0]
    assert len(found.rows[0].ids) == 32
    (kept := tmp_path / "kept").mkdir()
    record = convert.convert(folder, kept, lambda *_: None)
    assert record.max_tokens == 32
    inputs = batch_inputs(record)
    encoder = openvino_encoder.OpenVinoEncoder(
        openvino_encoder.compiled(kept, "f32", inputs, n_threads=0), inputs
    )
    np.testing.assert_allclose(
        np.frombuffer(encoder.encode(found.rows), "<f4"),
        np.frombuffer(model.runner.encode(found.rows), "<f4"),
        atol=1e-5,
    )
    assert read_sentence_encoder(folder).context_length == 32
