"""Groups the GGUF files of a folder into models by their names."""

import re
from pathlib import Path

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folder_listing import Entry, Listing, list_folder
from worker_runtime.model_files.foreign_files import is_file
from worker_runtime.model_files.odd_paths import printable

MAX_SHARDS = 1024
GGUF = ".gguf"
_SHARD = re.compile(r"-([0-9]{5})-of-([0-9]{5})$")


def gguf_models(folder: Path) -> list[Path]:
    """The GGUF models in `folder`, each by its first shard, without projectors of vision models.

    A file whose name ends in `-00002-of-00003.gguf` belongs to the model of its first shard.
    """
    return [entry.path for entry in gguf_entries(list_folder(folder))]


def gguf_entries(listing: Listing) -> list[Entry]:
    """As `gguf_models`, with those that are not files or cannot be read, which carry the reason."""
    return [
        entry
        for entry in listing
        if is_gguf(entry.path)
        and not entry.is_folder
        and "mmproj" not in entry.name.casefold()
        and _shard_number(entry.path) in (None, 1)
    ]


def is_gguf(path: Path) -> bool:
    return path.suffix == GGUF


def gguf_shards(first: Path) -> tuple[Path, ...]:
    """All files of the model whose first file is `first`.

    Raises:
        InvalidModelFile: a shard is missing.
    """
    match = _SHARD.search(first.stem)
    if match is None:
        return (first,)
    count = int(match[2])
    if not 0 < count <= MAX_SHARDS:
        raise InvalidModelFile(f"it claims {count} shards")
    shards = shard_paths(first)
    for shard in shards:
        if not is_file(shard):
            raise InvalidModelFile(f"the file {printable(shard.name)} is missing")
    return shards


def shard_paths(first: Path) -> tuple[Path, ...]:
    """The paths where the shards of the model with the first file `first` must be."""
    match = _SHARD.search(first.stem)
    if match is None or int(match[2]) > MAX_SHARDS:
        return (first,)
    stem = first.stem[: match.start()]
    return tuple(
        first.with_name(f"{stem}-{number:05}-of-{match[2]}{first.suffix}")
        for number in range(1, int(match[2]) + 1)
    )


def gguf_id(first: Path) -> str:
    """The model's id: the file's name without suffix and shard number."""
    return _SHARD.sub("", first.stem)


def _shard_number(path: Path) -> int | None:
    match = _SHARD.search(path.stem)
    return int(match[1]) if match else None
