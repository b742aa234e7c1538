"""Models of any kind with two small layers and random weights: converted in a part of the time that
the built-in one takes."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModel, PreTrainedConfig

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
