"""Files and batches in a folder: the content of each file, and a JSON record of each object.

    <folder>/files/<id>        the content        <folder>/files/<id>.json     its record
    <folder>/batches/<id>.json

Ids are made here, and what a client sends is only looked up among them: it never becomes a path.
One gateway uses a folder; a lock file keeps others out.
"""

import os
import secrets
import shutil
from pathlib import Path
from typing import IO, TypeVar

import filelock
import msgspec

from common.error_texts import ErrorText, echoed
from common.errors import BatchNotFound, RequestTooLarge
from gateway.batches.records import OPEN, Batch, FileRecord

MOST_OBJECTS = 1000
NO_ROOM = "batch_store_full"
T = TypeVar("T", FileRecord, Batch)


class BatchStore:
    """
    Args:
        folder: is created if it does not exist, with access for this user only.
        max_bytes: of all files together.
    Raises:
        OSError: the folder cannot be used.
        filelock.Timeout: another gateway uses it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._files, self._batches = folder / "files", folder / "batches"
        for each in (self._files, self._batches):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = filelock.FileLock(folder / "lock", timeout=0, thread_local=False)
        self._lock.acquire()
        self._max_bytes = max_bytes
        self.files = {record.id: record for record in _read(self._files, FileRecord)}
        self.batches = {batch.id: batch for batch in _read(self._batches, Batch)}
        self._remove_strays()

    def close(self) -> None:
        self._lock.release()

    def content(self, file_id: str) -> Path:
        """Where the content of a file is; `file_id` is one that was made here."""
        return self._files / file_id

    def file(self, owner: str, file_id: str) -> FileRecord:
        """
        Raises:
            BatchNotFound: the owner has no such file.
        """
        record = self.files.get(file_id)
        if record is None or record.owner != owner:
            raise BatchNotFound(ErrorText("file_not_known", id=echoed(file_id)), param="file_id")
        return record

    def batch(self, owner: str, batch_id: str) -> Batch:
        """
        Raises:
            BatchNotFound: the owner has no such batch.
        """
        batch = self.batches.get(batch_id)
        if batch is None or batch.owner != owner:
            raise BatchNotFound(ErrorText("batch_not_known", id=echoed(batch_id)), param="batch_id")
        return batch

    def add(self, record: FileRecord, source: IO[bytes]) -> FileRecord:
        """Copy a file into the store; its size is set.

        Raises:
            RequestTooLarge: there is no room for it.
            OSError: it cannot be written.
        """
        self._check_room(len(self.files))
        part = self._files / f"{record.id}.part"
        try:
            with part.open("wb") as target:
                shutil.copyfileobj(source, target)
                record.n_bytes = target.tell()
            self.require_room(record.n_bytes)
            os.replace(part, self.content(record.id))
        finally:
            part.unlink(missing_ok=True)
        self.add_written(record)
        return record

    def add_written(self, record: FileRecord) -> None:
        """Make a file of content that is there already."""
        _write(self._files / f"{record.id}.json", record)
        self.files[record.id] = record

    def delete_file(self, record: FileRecord) -> None:
        self.files.pop(record.id, None)
        for path in (self._files / f"{record.id}.json", self.content(record.id)):
            path.unlink(missing_ok=True)

    def save(self, batch: Batch) -> None:
        """Store a batch as it is now.

        Raises:
            RequestTooLarge: it is new, and there are too many.
        """
        if batch.id not in self.batches:
            self._check_room(len(self.batches))
        self.batches[batch.id] = batch
        _write(self._batches / f"{batch.id}.json", batch)

    def require_room(self, n_bytes: int) -> None:
        """
        Raises:
            RequestTooLarge: `n_bytes` more are too many.
        """
        if self.used_bytes + n_bytes > self._max_bytes:
            raise RequestTooLarge(
                ErrorText("batch_store_full", limit_bytes=self._max_bytes),
                suggestions=(ErrorText("delete_files"),),
            )

    @property
    def used_bytes(self) -> int:
        unfinished = (
            self.content(id).stat().st_size
            for batch in self.batches.values()
            if batch.status in OPEN
            for id in (batch.output_file_id, batch.error_file_id)
            if id not in self.files and self.content(id).exists()
        )
        return sum(record.n_bytes for record in self.files.values()) + sum(unfinished)

    def next_batch(self) -> Batch | None:
        """The oldest one that is not over."""
        waiting = [batch for batch in self.batches.values() if batch.status in OPEN]
        return min(waiting, key=lambda batch: (batch.created_at, batch.id), default=None)

    def _check_room(self, n_objects: int) -> None:
        if n_objects >= MOST_OBJECTS:
            raise RequestTooLarge(
                ErrorText("batch_objects_full", most=MOST_OBJECTS),
                suggestions=(ErrorText("delete_files"),),
            )

    def _remove_strays(self) -> None:
        """Remove content that no record and no open batch has: of a gateway that was killed."""
        known = set(self.files)
        for batch in self.batches.values():
            if batch.status in OPEN:
                known |= {batch.output_file_id, batch.error_file_id}
        for path in self._files.iterdir():
            if path.suffix != ".json" and path.name not in known:
                path.unlink()


def new_id(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(12)}"


def _read(folder: Path, kind: type[T]) -> list[T]:
    return [
        msgspec.json.decode(path.read_bytes(), type=kind) for path in sorted(folder.glob("*.json"))
    ]


def _write(path: Path, record: msgspec.Struct) -> None:
    """Replace a record as a whole: a reader never sees half of it."""
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(record))
    os.replace(new, path)
