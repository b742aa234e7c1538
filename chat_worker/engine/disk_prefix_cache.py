"""Prefixes on disk: conversations that outlive the memory, the process and the machine's restart.

File names are hashes and only the owner may read the files, because they reveal conversations. All
models share the folder and its limit; the least recently used files are deleted first.
"""

import hashlib
import os
import queue
import re
import sys
import threading
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from chat_worker.engine import prefix_file
from chat_worker.engine.prefix_file import InvalidPrefixFile
from chat_worker.engine.prefixes import HeldPrefix, covering, longest, outdated

SUFFIX = ".kv"
PART = ".part"
WAIT_S = 0.05
NAME = re.compile(rf"[0-9a-f]{{32}}\{SUFFIX}")


@dataclass(frozen=True, eq=False)
class StoredPrefix:
    """One prefix on disk."""

    path: Path
    salt: str
    tokens: list[int]


class DiskPrefixCache:
    """The prefixes of one model on disk. Used by the engine's thread.

    Args:
        folder: shared by all models.
        identity: identifies everything that decides what a saved slot means: the model, the library
            and the settings.
        max_bytes: limit for all files together.
        whole: the backend cannot use a part of a prefix.
        watch: entered while the engine's thread waits for the disk, which may hang.
    """

    def __init__(
        self,
        folder: Path,
        identity: str,
        max_bytes: int,
        *,
        whole: bool,
        watch: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._folder = folder
        self._own = folder / _hash(identity.encode())
        self._max_bytes = max_bytes
        self._whole = whole
        self._watch = watch
        self._known: list[StoredPrefix] = []
        self._complaint = ""
        self._writing = threading.Thread()
        self._written: queue.SimpleQueue[StoredPrefix] = queue.SimpleQueue()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own.mkdir(mode=0o700, exist_ok=True)
            self._own.chmod(0o700)
            for part in self._own.glob(f"*{PART}"):
                part.unlink(missing_ok=True)
            for path in self._own.glob(f"*{SUFFIX}"):
                self._learn(path)
        except OSError as error:
            self._complain(error)

    def longest(self, tokens: list[int], salt: str) -> tuple[StoredPrefix | None, int]:
        """The file that saves most of the computation of `tokens`, and how many tokens it saves."""
        self._collect()
        return longest(self._known, tokens, salt, whole=self._whole)

    def load(self, stored: StoredPrefix, fill: Callable[[memoryview], bool]) -> bool:
        """Give the state in a file to `fill`, which returns whether the backend accepts it.

        Returns:
            False if the file cannot be used; it is deleted.
        """
        try:
            with self._watch(), prefix_file.opened(stored.path, stored) as state:
                os.utime(stored.path)
                if fill(state):
                    return True
            self._reject(stored.path)
        except InvalidPrefixFile:
            self._reject(stored.path)
        except OSError as error:
            self._complain(error)
        self.forget(stored)
        return False

    def forget(self, stored: StoredPrefix) -> None:
        """Delete a file."""
        if stored in self._known:
            self._known.remove(stored)
        with suppress(OSError):
            stored.path.unlink(missing_ok=True)

    def refresh(self, tokens: list[int], salt: str) -> bool:
        """True if `tokens` need not be written, because a file has them, which is touched."""
        self._collect()
        stored = covering(self._known, tokens, salt, whole=self._whole)
        if stored is None:
            return False
        try:
            os.utime(stored.path)
        except OSError:  # another process deleted it for lack of room
            self.forget(stored)
            return False
        return True

    def write(self, prefix: HeldPrefix) -> None:
        """Write a prefix that no file has."""
        with self._watch():
            self._write(prefix)
        self._collect()

    def write_behind(self, prefix: HeldPrefix) -> None:
        """Write a prefix on another thread; not if one is still being written: a slow disk must
        neither delay answers nor hold memory."""
        if self._writing.is_alive() or self.refresh(prefix.tokens, prefix.salt):
            return
        self._writing = threading.Thread(
            target=self._write, args=(prefix,), name="prefix writer", daemon=True
        )
        self._writing.start()

    def finish(self, may_go_on: Callable[[], bool]) -> None:
        """Wait for the other thread as long as that is allowed."""
        while self._writing.is_alive() and may_go_on():
            self._writing.join(WAIT_S)

    def _write(self, prefix: HeldPrefix) -> None:
        """On either thread: touches nothing but files."""
        name = _hash(prefix.salt.encode(), array("q", prefix.tokens).tobytes())
        path = self._own / f"{name}{SUFFIX}"
        part = path.with_suffix(f".{os.getpid()}{PART}")
        try:
            head = prefix_file.head_of(prefix)
            if not self._make_room(len(head) + prefix.state.nbytes):
                return
            try:
                prefix_file.write(part, head, prefix.state)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            self._complain(error)
        else:
            self._written.put(StoredPrefix(path, prefix.salt, prefix.tokens))

    def _collect(self) -> None:
        """Take note of what was written."""
        while not self._written.empty():
            stored = self._written.get()
            for old in outdated(self._known, stored.tokens, stored.salt, whole=self._whole):
                self.forget(old)
            self._known.append(stored)

    def _learn(self, path: Path) -> None:
        if not NAME.fullmatch(path.name):
            _say(f"ignores {path.name!r}, which is not one of its files")
            return
        try:
            salt, tokens = prefix_file.read_key(path)
        except InvalidPrefixFile:
            self._reject(path)
        except OSError as error:
            self._complain(error)
        else:
            self._known.append(StoredPrefix(path, salt, tokens))

    def _reject(self, path: Path) -> None:
        _say(f"ignores and deletes {path.name}, which is damaged or of another version")
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def _make_room(self, n_bytes: int) -> bool:
        """Delete files until `n_bytes` may be added; False if they are more than the limit."""
        kept = []
        for path in self._folder.glob(f"*/*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another process deleted it
                if NAME.fullmatch(path.name):
                    stat = path.stat()
                    kept.append((stat.st_mtime_ns, stat.st_size, path))
        n_held = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if n_held + n_bytes <= self._max_bytes:
                break
            path.unlink(missing_ok=True)
            n_held -= size
        return n_bytes <= self._max_bytes

    def _complain(self, error: OSError) -> None:
        """Say what is wrong with the folder; once, because each request may find it again."""
        what = error.strerror or str(error)
        if what != self._complaint:
            self._complaint = what
            _say(f"cannot use its folder: {what}")


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _say(what: str) -> None:
    sys.stderr.write(f"the prefix cache on disk {what}\n")
