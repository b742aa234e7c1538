"""Caches models that are converted for another library in a folder of the user; each is converted
once.

A conversion needs large libraries and much memory, so it runs in a process of its own, which has
ended when the model is loaded. A converted model is named by a hash of everything that it depends
on. Where reading all files would take too long, it is found by the model's path and the times of
the files.
"""

import contextlib
import hashlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from common.packages import version_of
from worker_runtime.conversion.lock import (
    KEY_LENGTH,
    UNFINISHED,
    CannotLock,
    alone,
    unfinished_prefix,
)
from worker_runtime.conversion.process import OnProgress, run_converter
from worker_runtime.model_files.foreign_files import reason_of
from worker_runtime.model_files.gguf_files import shard_paths
from worker_runtime.model_files.odd_paths import path_text

log = logging.getLogger(__name__)

# The exit code after an uncaught exception. After any other code it is unknown what happened.
FAILED = 1
# The age after which the files of a killed converter are removed.
STALE_S = 3600


class NotConvertible(Exception):
    """The model must run on another library; the text states the reason."""


class Record(msgspec.Struct, kw_only=True):
    """What is stored about a converted model besides its files; `Conversions` sets these fields."""

    source: str = ""  # the model's path, by which files of its older versions are found and removed
    state: str = ""  # the state of the files there, see `Conversions.source_state`
    checks: dict[str, str] = {}  # checks of the written files, by name, see `checks_of`
    refusal: str = ""  # why the model is not converted; all other fields are then unset


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Conversions(Generic[R]):
    """One kind of conversion.

    Args:
        kind: the type of its records.
        record: the name of the file with the record in the folder of a converted model.
        module: the converter, run with `python -m` and the model's path and the new folder.
        version: raised when the conversion changes, so that every model is converted again.
        libraries: the packages whose versions the result depends on.
        sources: the patterns of the files in a model's folder that the result depends on.
        files: the names of the files that the converter writes.
        weights: that of `files` which is too large to be read for a check.
        spare_disk: the free space that a conversion needs, as a multiple of the files' size.
        prepared: returns what writes the converted form of a model where nothing has to be
            converted for that, or None.
    """

    kind: type[R]
    record: str
    module: str
    version: int
    libraries: tuple[str, ...]
    sources: tuple[str, ...]
    files: tuple[str, ...]
    weights: str
    spare_disk: float
    prepared: Callable[[Path], Callable[[Path], R] | None] = lambda model: None

    def converted(self, model: Path, cache: Path, on_progress: OnProgress) -> tuple[Path, R]:
        """Return the folder with the converted form of `model`, and its record.

        Raises:
            NotConvertible: the model, or this machine, does not allow a conversion.
        """
        record: R | None
        kept = self._kept(model, cache)
        if kept is not None and not self._damage(*kept):
            # Found without reading the model.
            folder, record = kept
        else:
            folder = cache / f"{model.name}-{self._key(model)}"
            record = self._found_or_made(model, folder, on_progress)
        if record is None:
            raise NotConvertible("its conversion left nothing behind")
        if record.refusal:
            raise NotConvertible(record.refusal)
        if (record.source, record.state) != (found := self._found_at(model)):
            record.source, record.state = found
            # If this cannot be written, the next load reserves memory for a conversion again.
            with contextlib.suppress(OSError):
                self.write(folder, record)
        return folder, record

    def _found_or_made(self, model: Path, folder: Path, on_progress: OnProgress) -> R | None:
        record = self._undamaged(folder)
        if record is not None:
            return record
        self._check_disk(model, folder.parent)
        try:
            with alone(folder, on_progress):
                # Another worker may have converted the model in the meantime.
                record = self._undamaged(folder)
                if record is None:
                    self._make(model, folder, on_progress)
                    record = self.read(folder)
        except CannotLock as error:
            raise NotConvertible(str(error)) from error
        return record

    def known(self, model: Path, cache: Path) -> R | None:
        """Return the record of `model`'s conversion, found by the times of the model's files.

        Returns:
            None if the model would be converted when it is loaded.
        """
        found = self._kept(model, cache)
        if found is None or self._damage(*found):
            return None
        return found[1]

    def forget(self, model: Path, cache: Path) -> None:
        """Delete `model`'s converted form, if it is not a record of why there is none."""
        found = self._kept(model, cache)
        if found is not None and not found[1].refusal:
            shutil.rmtree(found[0], ignore_errors=True)

    def _kept(self, model: Path, cache: Path) -> tuple[Path, R] | None:
        """The folder and the record of `model`, by the times of its files."""
        found = self._found_at(model)
        for path in cache.glob(f"*/{self.record}"):
            record = self.read(path.parent)
            if record is not None and (record.source, record.state) == found:
                return path.parent, record
        return None

    def refused(self, model: Path, reason: str) -> R:
        """Return a record which states that `model` is not converted."""
        source, state = self._found_at(model)
        return self.kind(source=source, state=state, refusal=reason)

    def checks_of(self, folder: Path) -> dict[str, str]:
        """Return checks of a converted model's files, which later show whether one is damaged."""
        return {name: self._check(folder / name) for name in self.files}

    def source_state(self, model: Path) -> str:
        """Return a hash that changes with the files of `model` or a library; no file is read."""
        digest = hashlib.sha256(self._versions().encode())
        for name, path in self._files_of(model):
            stat = path.stat()
            digest.update(f"\0{name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
        return digest.hexdigest()[:16]

    def read(self, folder: Path) -> R | None:
        """Return the record in `folder`; None if there is no complete conversion."""
        try:
            return msgspec.json.decode((folder / self.record).read_bytes(), type=self.kind)
        except (OSError, msgspec.MsgspecError):
            return None

    def write(self, folder: Path, record: R) -> None:
        """Replace the record in one atomic step."""
        fresh = folder / f"{self.record}.new"
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
        fresh.replace(folder / self.record)

    def store(self, source: Path, folder: Path, convert: Callable[[Path], R]) -> None:
        """Let `convert` write to a temporary folder, which becomes `folder` when it is complete."""
        prefix = unfinished_prefix(folder)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as place:
            fresh = Path(place) / folder.name
            fresh.mkdir()
            record = convert(fresh)
            record.source, record.state = self._found_at(source)
            record.checks = {} if record.refusal else self.checks_of(fresh)
            self.write(fresh, record)
            self._clear_away(folder.parent, source)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)

    def _clear_away(self, cache: Path, source: Path) -> None:
        """Remove the files of older versions of the model and of killed converters."""
        for path in cache.glob(f"*/{self.record}"):
            record = self.read(path.parent)
            if record is None or record.source == path_text(source.resolve()):
                shutil.rmtree(path.parent, ignore_errors=True)
        for path in cache.glob(f"{UNFINISHED}*"):
            if time.time() - path.stat().st_mtime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)

    def _key(self, model: Path) -> str:
        digest = hashlib.sha256(self._versions().encode())
        for name, path in self._files_of(model):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(f"\0{name}\0".encode() + content)
        return digest.hexdigest()[:KEY_LENGTH]

    def _versions(self) -> str:
        named = (f"{name} {version_of(name)}" for name in self.libraries)
        return "\0".join((f"{self.version}", *named))

    def _undamaged(self, folder: Path) -> R | None:
        record = self.read(folder)
        if record is not None and (damage := self._damage(folder, record)):
            log.warning("the converted form in %s is damaged: %s", folder, damage)
            return None
        return record

    def _found_at(self, model: Path) -> tuple[str, str]:
        return path_text(model.resolve()), self.source_state(model)

    def _damage(self, folder: Path, record: R) -> str:
        """Return what is wrong with a converted model's files; empty if no damage is found."""
        for name, expected in record.checks.items():
            try:
                if self._check(folder / name) != expected:
                    return f"{name} is not as it was written"
            except OSError as error:
                return f"{name}: {reason_of(error)}"
        return ""

    def _check(self, file: Path) -> str:
        """Return a hash of a file, but only the size of weights, as reading them takes seconds."""
        if file.name == self.weights:
            return f"{file.stat().st_size} bytes"
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    def _files_of(self, model: Path) -> Iterator[tuple[str, Path]]:
        """Yield the names and paths of the files of `model`, a folder or the first file."""
        if model.is_file():
            yield from ((path.name, path) for path in shard_paths(model))
            return
        found = {path for pattern in self.sources for path in model.glob(pattern)}
        for path in sorted(found):
            if path.is_file():
                yield path.relative_to(model).as_posix(), path

    def _check_disk(self, model: Path, cache: Path) -> None:
        need = self.spare_disk * sum(path.stat().st_size for _, path in self._files_of(model))
        try:
            cache.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(cache).free
        except OSError as error:
            raise NotConvertible(f"the folder {cache} cannot be written to") from error
        if free < need:
            raise NotConvertible(
                f"the folder {cache} has {free >> 20} MiB left, less than it needs"
            )

    def _make(self, model: Path, folder: Path, on_progress: OnProgress) -> None:
        write = self.prepared(model)
        if write is None:
            self._convert(model, folder, on_progress)
        else:
            on_progress(0.2, "reading weights")
            self.store(model, folder, write)

    def _convert(self, model: Path, folder: Path, on_progress: OnProgress) -> None:
        log.info("converting %s for OpenVINO, once", model.name)
        code = run_converter(self.module, model, folder, on_progress)
        if code:
            reason = f"its conversion ended with code {code}, see the log"
            if code != FAILED:
                self._remember_death(model, folder, reason)
            raise NotConvertible(reason)

    def _remember_death(self, model: Path, folder: Path, reason: str) -> None:
        """Record a converter's death, mostly for lack of memory, so that no load starts it
        again."""
        folder.mkdir(parents=True, exist_ok=True)
        again = f"{reason}; to try again, delete {path_text(folder)}"
        self.write(folder, self.refused(model, again))
