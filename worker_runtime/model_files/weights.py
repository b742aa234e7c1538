"""The files of weights in a folder, all checked; pickled ones are refused, as they can run code."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.folder_listing import Listing, list_folder
from worker_runtime.model_files.gguf_files import MAX_SHARDS
from worker_runtime.model_files.odd_paths import printable
from worker_runtime.model_files.safetensors import check_safetensors
from worker_runtime.model_files.small_json import read_object

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


class Weights(msgspec.Struct, frozen=True):
    """Files of weights, all checked.

    Args:
        n_numbers: the count of numbers in all tensors; 0 if they were not counted.
    """

    files: tuple[Path, ...]
    size_bytes: int
    mtime_ns: int
    n_numbers: int = 0


def folder_weights(folder: Path) -> Weights:
    """Return the safetensors files that a loader would read from `folder`, all checked.

    Raises:
        InvalidModelFile: there are no weights, a file is broken, or the weights are pickled.
    """
    listing = list_folder(folder)
    if listing.reason:
        raise InvalidModelFile(listing.reason)
    files = tuple(folder / name for name in _weight_names(listing))
    if not files:
        pickled = any(name.endswith(PICKLED) for name in listing.entries)
        reason = "its weights are pickled, which can run code: convert them to safetensors"
        raise InvalidModelFile(reason if pickled else "there are no weights")
    n_numbers = sum(check_safetensors(file).n_numbers for file in files)
    return msgspec.structs.replace(file_weights(files), n_numbers=n_numbers)


def file_weights(files: tuple[Path, ...]) -> Weights:
    """Return the sizes and times of these files, whose headers are not read."""
    stats = [file.stat() for file in files]
    size_bytes = sum(stat.st_size for stat in stats)
    return Weights(files, size_bytes, max((stat.st_mtime_ns for stat in stats), default=0))


def _weight_names(listing: Listing) -> list[str]:
    index, single = "model.safetensors.index.json", "model.safetensors"
    if index in listing.entries:
        return list(_indexed(listing, listing.folder / index))
    if single in listing.entries:
        return [single]
    return [entry.name for entry in listing if entry.name.endswith(".safetensors")]


def _indexed(listing: Listing, index: Path) -> Iterator[str]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidModelFile(f"{index.name} lists no weights")
    names = sorted({name if isinstance(name, str) else "" for name in weight_map.values()})
    if len(names) > MAX_SHARDS:
        raise InvalidModelFile(f"{index.name} names {len(names)} files")
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise InvalidModelFile(f"{index.name} names a file outside the model's folder")
        if name not in listing.entries:
            raise InvalidModelFile(f"the file {printable(name[:64])} is missing")
        yield name
