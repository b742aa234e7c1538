"""Models of other kinds than BERT, made here with random weights: converted, and as torch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from embed_worker.encoders import openvino as openvino_encoder
from embed_worker.encoders import torch as torch_encoder
from embed_worker.encoders.conversion_cache import read_record

DIMENSION = 64
WINDOW = 16
LENGTHS = (1, 3, 9, 60, 200)
SHAPE = {
    "hidden_size": DIMENSION,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 30522,
    "max_position_embeddings": 300,
}


def make(folder: Path, built_in: Path, config: PreTrainedConfig) -> None:
    """A model folder with the built-in model's tokenizer."""
    shutil.copytree(built_in, folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                # Large enough that texts, positions and distances tell in the vectors.
                weights.mul_(6)
    model.save_pretrained(folder)
    pooling = {"word_embedding_dimension": DIMENSION, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


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
