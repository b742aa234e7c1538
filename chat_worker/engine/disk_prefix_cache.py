"""A cache of prefixes on disk: the slots of an unloaded model, for later turns of conversations.

A file is what the backend writes for one slot, followed by a record: the slot's tokens and a
digest, because backends do not validate what they read. File names are hashes and only the owner
may read the files, because they reveal conversations. All models share the folder and its limit;
the least recently used files are deleted first.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from chat_worker.engine.slots import MAX_LOST_TOKENS, common_prefix

SUFFIX = ".kv"
PART = ".part"
# Computing fewer tokens than this is as fast as reading them.
MIN_TOKENS = 32
# An engine process must end within five seconds.
SAVE_WITHIN_S = 3.0
MAX_RECORD_BYTES = 16 * 1024 * 1024
MAGIC = b"Y26HKX-KV1"


class SlotFiles(Protocol):
    """A backend that can write its slots to files. It is called on the engine's thread."""

    def save(self, slot: int, tokens: list[int], path: Path) -> bool:
        """Write the slot, which holds `tokens`; returns False if that failed."""

    def load(self, slot: int, path: Path, n_tokens: int) -> bool:
        """Fill an empty slot; returns False if the file is not valid: then drop the slot."""


class _Record(Struct):
    salt: str
    tokens: list[int]
    digest: bytes


@dataclass(frozen=True)
class StoredPrefix:
    """One prefix on disk."""

    path: Path
    salt: str
    tokens: list[int]


class DiskPrefixCache:
    """The prefixes of one model on disk.

    Args:
        folder: shared by all models.
        identity: identifies everything that decides what a saved slot means: the model, the library
            and the settings.
        max_bytes: limit for all files together.
    """

    def __init__(self, files: SlotFiles, folder: Path, identity: str, max_bytes: int) -> None:
        self._files = files
        self._folder = folder
        self._own = folder / _hash(identity)
        self._max_bytes = max_bytes
        self._known: list[StoredPrefix] = []
        try:
            self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in self._own.glob(f"*{PART}"):
                part.unlink(missing_ok=True)
            for path in self._own.glob(f"*{SUFFIX}"):
                self._learn(path)
        except OSError as error:
            _complain(error)

    def longest(
        self, tokens: list[int], salt: str, *, whole: bool
    ) -> tuple[StoredPrefix | None, int]:
        """The file that shares most of `tokens`, and how many tokens it shares.

        Args:
            whole: only files whose tokens `tokens` begins with count.
        """
        best, n_best = None, 0
        for kept in self._known:
            n_common = common_prefix(kept.tokens, tokens)
            is_usable = kept.salt == _hash(salt) and not (whole and n_common < len(kept.tokens))
            if is_usable and n_common > max(n_best, MIN_TOKENS - 1):
                best, n_best = kept, n_common
        return best, n_best

    def load(self, kept: StoredPrefix, slot: int) -> bool:
        """Fill an empty slot from a file; returns False if the file was damaged and is deleted."""
        try:
            record = _record(kept.path)
            is_good = (
                record is not None
                and record.tokens == kept.tokens
                and record.digest == _digest(kept, _record_size(kept.path))
                and self._files.load(slot, kept.path, len(kept.tokens))
            )
            if is_good:
                os.utime(kept.path)
                return True
        except OSError as error:
            _complain(error)
        self._forget(kept)
        return False

    def save(self, slots: Iterator[tuple[int, list[int], str]]) -> None:
        """Write as many slots (id, tokens, salt) in this order as there is time for."""
        until_s = time.monotonic() + SAVE_WITHIN_S
        try:
            for slot, tokens, salt in slots:
                if time.monotonic() > until_s:
                    break
                if len(tokens) >= MIN_TOKENS:
                    self._save(slot, tokens, _hash(salt))
            self._make_room()
        except OSError as error:
            _complain(error)

    def _save(self, slot: int, tokens: list[int], salt: str) -> None:
        path = self._own / f"{_hash(salt, _bytes(tokens))}{SUFFIX}"
        if path.exists():
            os.utime(path)
            return
        part = path.with_suffix(PART)
        part.touch(mode=0o600)
        try:
            if not self._files.save(slot, tokens, part):
                return
            record = msgspec.msgpack.encode(
                _Record(salt, tokens, _digest(StoredPrefix(part, salt, tokens), 0))
            )
            with part.open("ab") as file:
                file.write(record + len(record).to_bytes(4, "little") + MAGIC)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        # One of them may be the same conversation, a turn earlier.
        for kept in list(self._known):
            n_lost = len(kept.tokens) - common_prefix(kept.tokens, tokens)
            if kept.salt == salt and n_lost <= MAX_LOST_TOKENS:
                self._forget(kept)
        self._known.append(StoredPrefix(path, salt, list(tokens)))

    def _learn(self, path: Path) -> None:
        record = _record(path)
        if record is None:
            path.unlink(missing_ok=True)
        else:
            self._known.append(StoredPrefix(path, record.salt, record.tokens))

    def _forget(self, kept: StoredPrefix) -> None:
        self._known.remove(kept)
        with suppress(OSError):
            kept.path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        stats = [(path, path.stat()) for path in self._folder.glob(f"*/*{SUFFIX}")]
        n_bytes = sum(stat.st_size for _, stat in stats)
        for path, stat in sorted(stats, key=lambda pair: pair[1].st_mtime_ns):
            if n_bytes <= self._max_bytes:
                break
            path.unlink(missing_ok=True)
            n_bytes -= stat.st_size


def _hash(*parts: str | bytes) -> str:
    joined = b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(joined).hexdigest()[:32]


def _bytes(tokens: list[int]) -> bytes:
    return b"".join(token.to_bytes(4, "little") for token in tokens)


def _digest(kept: StoredPrefix, n_left_out: int) -> bytes:
    """The digest of the file without its last bytes, and of its key."""
    digest = hashlib.blake2b(kept.salt.encode() + _bytes(kept.tokens), digest_size=16)
    n_left = kept.path.stat().st_size - n_left_out
    with kept.path.open("rb") as file:
        while n_left > 0 and (piece := file.read(min(n_left, 1 << 20))):
            digest.update(piece)
            n_left -= len(piece)
    return digest.digest()


def _record_size(path: Path) -> int:
    """The size of the record and of what ends it; 0 if there is none."""
    n_closing = 4 + len(MAGIC)
    n_bytes = path.stat().st_size
    if n_bytes < n_closing:
        return 0
    with path.open("rb") as file:
        file.seek(-n_closing, os.SEEK_END)
        closing = file.read(n_closing)
    size = int.from_bytes(closing[:4], "little") + n_closing
    return size if closing[4:] == MAGIC and size <= min(n_bytes, MAX_RECORD_BYTES) else 0


def _record(path: Path) -> _Record | None:
    size = _record_size(path)
    if not size:
        return None
    with path.open("rb") as file:
        file.seek(-size, os.SEEK_END)
        encoded = file.read(size - 4 - len(MAGIC))
    try:
        return msgspec.msgpack.decode(encoded, type=_Record)
    except msgspec.DecodeError:  # a wrong type or none at all
        return None


def _complain(error: OSError) -> None:
    sys.stderr.write(f"the prefix cache on disk cannot be used: {error.strerror or error}\n")
