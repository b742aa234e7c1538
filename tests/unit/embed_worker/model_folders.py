"""Folders of embedding models, made of a few bytes, and what the worker finds in them."""

import json
from pathlib import Path

from embed_worker.discovery import EmbedModelScan
from embed_worker.settings import EmbedSettings
from tests.made_models import safetensors
from worker_runtime.catalog import ModelEntry, Scan


def write_model(folder: Path, *, module: str = "sentence_transformers.models.Transformer") -> None:
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "type": module, "path": ""}]))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128}))
    (folder / "model.safetensors").write_bytes(safetensors())


def write_cross_encoder(folder: Path, n_labels: int = 1) -> None:
    """As transformers saves it; `n_labels` outputs."""
    write_model(folder)
    (folder / "modules.json").unlink()
    (folder / "sentence_bert_config.json").unlink()
    config = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(number): "x" for number in range(n_labels)},
        "max_position_embeddings": 512,
    }
    (folder / "config.json").write_text(json.dumps(config))


def scan(models_dir: Path, **settings: object) -> Scan:
    return EmbedModelScan(EmbedSettings(_env_file=None, models_dir=models_dir, **settings))()  # type: ignore[arg-type]


def by_id(found: Scan) -> dict[str, ModelEntry]:
    return {entry.id: entry for entry in found.entries}
