"""Encoders on OpenVINO in the test's process, and small models that are converted for it."""

import json
import os
import shutil
from pathlib import Path

from transformers import BertConfig

from embed_worker.discovery import built_in_folder
from embed_worker.encoders import openvino as openvino_encoder
from embed_worker.encoders.loaded import LoadedEncoder
from tests.unit.embed_worker.small_models import DIMENSION, SHAPE, make


def ignore_progress(fraction: float, stage: str) -> None:
    pass


def on_openvino(folder: Path, cache: Path, precision: str = "f32") -> LoadedEncoder:
    return openvino_encoder.load(
        folder, cache=cache, precision=precision, n_threads=0, on_progress=ignore_progress
    )


def linked(folder: Path, copy: Path) -> Path:
    """A folder with the same files, none of which may be written to."""
    return Path(shutil.copytree(folder, copy, copy_function=os.link))


def variant(
    tmp_path: Path, pooling: dict[str, object] | None = None, prompts: dict[str, str] | None = None
) -> Path:
    """A small BERT model with another configuration."""
    built_in = built_in_folder()
    assert built_in is not None
    folder = tmp_path / "variant"
    make(folder, built_in, BertConfig(**SHAPE))
    if pooling is not None:
        pooling = {"word_embedding_dimension": DIMENSION} | pooling
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if prompts is not None:
        config = {"__version__": {}, "prompts": prompts, "default_prompt_name": "query"}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    return folder
