"""Models of any kind with two small layers and random weights: converted in a part of the time that
the built-in one takes."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModel, PreTrainedConfig, Qwen3Config

DIMENSION = 64
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
    shutil.copytree(built_in, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                # Large enough that texts, positions and distances tell in the vectors.
                weights.mul_(6)
    model.save_pretrained(folder)
    write_pooling(folder, "pooling_mode_mean_tokens")


def make_decoder(folder: Path, built_in: Path) -> None:
    """As Qwen3-Embedding is: the last token is pooled, and padding stands before the texts."""
    shape = SHAPE | {"num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0}
    make(folder, built_in, Qwen3Config(**shape))
    write_pooling(folder, "pooling_mode_lasttoken")
    _edit(folder / "tokenizer_config.json", padding_side="left")


def forget_limits(folder: Path) -> None:
    """No file but the model's own config says how long texts may be."""
    (folder / "sentence_bert_config.json").write_text("{}")
    _edit(folder / "tokenizer_config.json", model_max_length=None)
    _edit(folder / "tokenizer.json", truncation=None)


def write_pooling(folder: Path, mode: str) -> None:
    pooling = {"word_embedding_dimension": DIMENSION, "pooling_mode_mean_tokens": False, mode: True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def _edit(path: Path, **entries: object) -> None:
    content = json.loads(path.read_bytes()) | entries
    told = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(told))
