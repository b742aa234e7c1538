"""Deletes a model's files from the models folder, and nothing outside of it."""

import os
import shutil
from pathlib import Path

import msgspec

from chat_worker.discovery import ChatModelScan
from chat_worker.places import EMBEDDING_FOLDER, GUIDE_FOLDER, SUBFOLDERS
from chat_worker.settings import ChatSettings
from common.error_texts import ErrorText, echoed
from common.errors import InvalidRequest, ModelNotFound
from common.model_ids import same_model_id
from downloads.settings import DownloadSettings
from embed_worker.discovery import EmbedModelScan
from embed_worker.settings import EmbedSettings
from worker_runtime.catalog import ModelEntry
from worker_runtime.model_files.default_model import forget_default
from worker_runtime.model_files.gguf_files import shard_paths
from worker_runtime.model_files.hub_cache import PREFIX

# Folders that stay, even if they are empty.
_KEPT = frozenset({EMBEDDING_FOLDER, *SUBFOLDERS})


class Removed(msgspec.Struct, frozen=True):
    """
    Args:
        removed: paths in the models folder.
    """

    model: str
    removed: list[str]
    freed_bytes: int


def remove(model: str, settings: DownloadSettings) -> Removed:
    """Delete the model with the id `model`.

    Raises:
        ModelNotFound: there is none.
        InvalidRequest: it is not in the models folder, or its files cannot be deleted.
    """
    root = settings.models_dir
    found = [entry for entry in _entries() if same_model_id(entry.id, model)]
    if not found:
        raise ModelNotFound(ErrorText("model_not_found", model=echoed(model)), param="model")
    # Of a chat and an embedding model with one id, both are meant.
    removed, freed_bytes = [], 0
    for entry in found:
        for path in _files(entry, root):
            freed_bytes += _size(path)
            removed.append(path.relative_to(root.resolve()).as_posix())
            _delete(path)
        _tidy(entry.path.parent, root)
        forget_default(root, entry.id)
    return Removed(found[0].id, removed, freed_bytes)


def _entries() -> list[ModelEntry]:
    entries = [*ChatModelScan(ChatSettings())().entries, *EmbedModelScan(EmbedSettings())().entries]
    return [entry for entry in entries if entry.backend != "remote"]


def _files(entry: ModelEntry, root: Path) -> list[Path]:
    """What makes up the model: files, or a folder.

    Raises:
        InvalidRequest: it is not within the models folder, or it is built in.
    """
    root = root.resolve()
    path = entry.path.parent.resolve() / entry.path.name
    # In a checkout the built-in model is within the models folder.
    if path.is_relative_to(GUIDE_FOLDER.resolve()):
        raise InvalidRequest(ErrorText("delete_built_in", model=path.stem), param="model")
    if not path.is_relative_to(root) or path == root:
        raise InvalidRequest(
            ErrorText("delete_outside", model=entry.id),
            param="model",
            suggestions=(ErrorText("delete_by_hand"),),
        )
    for folder in path.parents:
        # In the hub's cache a snapshot holds links to blobs beside it.
        if folder.name.startswith(PREFIX) and folder.is_relative_to(root):
            return [folder]
    if path.is_dir():
        return [path]
    return [shard for shard in shard_paths(path) if os.path.lexists(shard)]


def _size(path: Path) -> int:
    if path.is_symlink():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir())


def _delete(path: Path) -> None:
    """Delete a file, a folder, or a link but not where it leads."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise InvalidRequest(
            ErrorText("delete_failed", model=path.name, reason=error.strerror or "?"),
            param="model",
        ) from error


def _tidy(folder: Path, root: Path) -> None:
    """Delete the folder that the model leaves empty."""
    is_own = folder.resolve().parent == root.resolve() and folder.name not in _KEPT
    if is_own and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
