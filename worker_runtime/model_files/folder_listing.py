"""Lists a folder: names, kinds, sizes and times of its entries. No file is opened.

An entry that cannot be read is listed with the reason.
"""

import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from worker_runtime.model_files.foreign_files import kind_of, reason_of
from worker_runtime.model_files.odd_paths import printable

MAX_ENTRIES = 100_000
# File times can be set to any number.
MOST_NS = 1 << 62

log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True):
    """One entry of a folder.

    Args:
        reason: why it is neither a file nor a folder, or cannot be read; else empty.
    """

    path: Path
    is_file: bool = False
    is_folder: bool = False
    size_bytes: int = 0
    mtime_ns: int = 0
    reason: str = ""

    # True if the entry cannot be read, so it may be a folder.
    may_be_folder: bool = False

    @property
    def name(self) -> str:
        return self.path.name


class Listing(msgspec.Struct, frozen=True):
    """The entries of one folder.

    Args:
        entries: by name, sorted.
        reason: why the folder cannot be listed; empty also if there is no such folder.
    """

    folder: Path
    entries: dict[str, Entry] = {}
    reason: str = ""

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())


class Listings:
    """Lists each folder only once; made anew for each scan of a tree."""

    def __init__(self) -> None:
        self._made: dict[Path, Listing] = {}

    def of(self, folder: Path) -> Listing:
        if folder not in self._made:
            self._made[folder] = list_folder(folder)
        return self._made[folder]


def list_folder(folder: Path) -> Listing:
    """List a folder. Links are followed: an entry's kind is that of its target."""
    entries: list[Entry] = []
    try:
        with os.scandir(folder) as found:
            for one in found:
                if len(entries) == MAX_ENTRIES:
                    log.warning("%s: only the first %d entries are read", folder, MAX_ENTRIES)
                    break
                entries.append(look_at(folder / one.name))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return Listing(folder)
        return Listing(folder, reason=f"the folder {reason_of(error)}")
    entries.sort(key=lambda entry: entry.name)
    return Listing(folder, {entry.name: entry for entry in entries})


def look_at(path: Path) -> Entry:
    """The entry at `path`, whatever it is."""
    try:
        state = os.stat(path)
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "its name is not valid"
        return Entry(path, reason=reason, may_be_folder=True)
    if stat.S_ISREG(state.st_mode):
        return Entry(
            path,
            is_file=True,
            size_bytes=state.st_size,
            mtime_ns=min(max(state.st_mtime_ns, 0), MOST_NS),
        )
    if stat.S_ISDIR(state.st_mode):
        return Entry(path, is_folder=True)
    return Entry(path, reason=f"{printable(path.name)} is {kind_of(state.st_mode)}, not a file")
