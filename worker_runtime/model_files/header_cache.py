"""Caches what model headers state while the files do not change; files that cannot be read are
represented by the reason."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from worker_runtime.model_files.errors import InvalidModelFile
from worker_runtime.model_files.foreign_files import reason_of
from worker_runtime.model_files.model_places import FileState, Place

T = TypeVar("T")


class HeaderCache(Generic[T]):
    """Entries by path and state of the files.

    Args:
        read: reads the files at a path; may raise `InvalidModelFile` or `OSError`.
        broken: builds the entry of files that cannot be used, from the reason.
    """

    def __init__(self, read: Callable[[Path], T], broken: Callable[[str], T]) -> None:
        self._read = read
        self._broken = broken
        self._known: dict[tuple[Path, FileState], T] = {}
        self._used: dict[tuple[Path, FileState], T] = {}
        self._latest: dict[Path, T] = {}
        # Scans and loads run in threads of their own.
        self._lock = threading.Lock()

    def begin_scan(self) -> None:
        """Forget entries that the last scan did not use: their files were removed or changed."""
        with self._lock:
            self._known, self._used = self._used, {}
            self._latest = {path: entry for (path, _), entry in self._known.items()}

    def latest(self, path: Path) -> T | None:
        """The entry from the last call of `of` for this path."""
        return self._latest.get(path)

    def of(self, place: Place) -> T:
        if place.reason:
            return self._broken(place.reason)
        key = (place.path, place.state)
        found = self._used.get(key)
        if found is None:
            found = self._known.get(key)
        if found is None:
            try:
                found = self._read(place.path)
            except InvalidModelFile as error:
                found = self._broken(str(error))
            except OSError as error:
                # Not cached, because permissions change, and files return with the same size and
                # time.
                return self._broken(reason_of(error))
        with self._lock:
            self._used[key] = self._latest[place.path] = found
        return found
