"""The places of models: a GGUF file with its shards, or a folder, with the state of its files."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from worker_runtime.model_files.folder_listing import Entry, Listing, Listings
from worker_runtime.model_files.gguf_files import gguf_entries, gguf_id, is_gguf, shard_paths
from worker_runtime.model_files.odd_paths import printable

# Folders that file systems and their programs create.
NOT_MODELS = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN"})

FileState = tuple[tuple[str, int, int], ...]


class Place(msgspec.Struct, frozen=True):
    """The files of one model.

    Args:
        files: the files that make up the model.
        reason: why they cannot be read, which makes the model broken; else empty.
        is_built_in: it came with Y26HKX; a user's model of the same name is preferred.
    """

    path: Path
    files: tuple[Entry, ...] = ()
    reason: str = ""
    is_built_in: bool = False
    # Its id, if that is not the name of its file or folder.
    own_id: str = ""
    # Other names that the program has for it which downloaded it.
    aliases: tuple[str, ...] = ()

    @property
    def state(self) -> FileState:
        """Names, sizes and times of the files; it changes when the files change."""
        return tuple((str(file.path), file.size_bytes, file.mtime_ns) for file in self.files)

    @property
    def mtime_ns(self) -> int:
        return max((file.mtime_ns for file in self.files), default=0)

    @property
    def wanted_id(self) -> str:
        """Its id, unless another model has the same."""
        if self.own_id:
            return self.own_id
        is_file = self.is_file or (not self.files and is_gguf(self.path))
        return printable(gguf_id(self.path) if is_file else self.path.name) or "_"

    @property
    def is_file(self) -> bool:
        """Whether it is a GGUF file. Folders may have such names, too."""
        return bool(self.files) and self.files[0].path == self.path


def gguf_places(listing: Listing) -> list[Place]:
    """The GGUF models of a folder."""
    return [_gguf_place(entry, listing) for entry in gguf_entries(listing)]


def place_of_file(path: Path, listings: Listings) -> Place | None:
    """The GGUF model whose first file is `path`; None if there is none."""
    listing = listings.of(path.parent)
    entry = listing.entries.get(path.name)
    if entry is None or not gguf_entries(Listing(listing.folder, {entry.name: entry})):
        return None
    return _gguf_place(entry, listing)


def unreadable(entry: Entry | Listing) -> Place | None:
    """A broken model for an entry that cannot be read and may be a model; else None."""
    path = entry.folder if isinstance(entry, Listing) else entry.path
    if not entry.reason or not may_be_model(path.name):
        return None
    return Place(path, reason=entry.reason)


def may_be_model(name: str) -> bool:
    return not name.startswith(".") and name not in NOT_MODELS


def _gguf_place(first: Entry, listing: Listing) -> Place:
    names = (path.name for path in shard_paths(first.path))
    files = tuple(_known(names, listing))
    reasons = (file.reason for file in files if file.reason)
    return Place(first.path, files, next(reasons, ""))


def _known(names: Iterable[str], listing: Listing) -> Iterator[Entry]:
    return (listing.entries[name] for name in names if name in listing.entries)
