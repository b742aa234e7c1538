"""Remembers which model of the models folder serves requests that name none.

Without MODEL_PATH that is the built-in model, until a model of one's own is downloaded.
"""

import os
from pathlib import Path

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import read_at_most

FILE = ".default-model"
MAX_BYTES = 1024


def default_model(models_dir: Path) -> str:
    """The id that was recorded; empty: none was."""
    try:
        return read_at_most(models_dir / FILE, MAX_BYTES).decode("utf-8", "replace").strip()
    except (InvalidModelFile, OSError):
        return ""


def record_default(models_dir: Path, model_id: str) -> bool:
    """Record the id, unless another is; returns whether it is recorded now."""
    known = default_model(models_dir)
    if not known:
        new = models_dir / f"{FILE}.new"
        new.write_text(f"{model_id}\n", "utf-8")
        os.replace(new, models_dir / FILE)
    return known in ("", model_id)


def forget_default(models_dir: Path, model_id: str) -> None:
    """Let the built-in model be the default again, if `model_id` is."""
    if default_model(models_dir) == model_id:
        (models_dir / FILE).unlink(missing_ok=True)
