"""The folder of an unfinished download, beside the models and hidden from every scan.

It outlives a kill: a journal says which parts are there, and the next download of the same files
goes on. A model becomes visible under its own name only when all of it is there and checked.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from common.error_texts import ErrorText
from common.errors import DiskFull, DownloadFailed, InvalidRequest, Overloaded
from common.sizes import mib
from downloads.listing import RemoteFile
from downloads.names import within

FOLDER = ".downloads"
JOURNAL, LOCK = "journal", "lock"
# Downloads that nobody went on with.
FORGOTTEN_AFTER_S = 30 * 24 * 3600
READ_BYTES = 1 << 20
# For everything else that is written meanwhile.
SPARE_BYTES = 64 << 20

Files = Sequence[tuple[RemoteFile, PurePosixPath]]


class Staging:
    """Holds the files of one download until they are complete.

    Args:
        models_dir: where they will be.
        files: with their paths in `models_dir`.
    """

    def __init__(self, models_dir: Path, files: Files) -> None:
        self._models_dir = models_dir
        self._files = files
        self._root = models_dir / FOLDER
        self.folder = self._root / _key(files)
        self._lock = FileLock(self._root / f"{self.folder.name}.{LOCK}")
        self._writing = threading.Lock()
        # (number of the file, offset) of parts that are there.
        self.done: set[tuple[int, int]] = set()

    def __enter__(self) -> "Staging":
        """
        Raises:
            ServingError: another process downloads the same, or the folder is not ours to write.
        """
        within(self._models_dir, PurePosixPath(FOLDER))
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise Overloaded(ErrorText("pull_runs_already"), retry_after_s=30) from None
        self._forget_old()
        self._read_journal()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def part(self, number: int) -> Path:
        """The place of a file while it is downloaded."""
        return self.folder / f"{number:05}.part"

    def missing_bytes(self, part_bytes: int) -> int:
        return sum(
            min(part_bytes, file.size_bytes - begin)
            for number, (file, _) in enumerate(self._files)
            for begin in range(0, file.size_bytes, part_bytes)
            if (number, begin) not in self.done
        )

    def require_space(self, n_bytes: int) -> None:
        """
        Raises:
            DiskFull: the disk has less room than what is still to come.
        """
        free = shutil.disk_usage(self.folder).free
        if free < n_bytes + SPARE_BYTES:
            raise DiskFull(
                ErrorText("pull_disk_full", need=mib(n_bytes + SPARE_BYTES), free=mib(free)),
                param="model",
                suggestions=(ErrorText("free_disk_space"),),
            )

    def note_done(self, number: int, begin: int) -> None:
        """Remember that a part is there, also after a kill."""
        with self._writing:
            self.done.add((number, begin))
            with (self.folder / JOURNAL).open("a", encoding="ascii") as journal:
                journal.write(f"{number} {begin}\n")

    def check(self, number: int, on_bytes: Callable[[int], None]) -> None:
        """Compare a file with the checksum that the hub states.

        Raises:
            DownloadFailed: they differ; the file is deleted, so that it is fetched anew.
        """
        file, _ = self._files[number]
        path = self.part(number)
        sha256, git = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        git.update(b"blob %d\0" % file.size_bytes)
        with path.open("rb") as content:
            while piece := content.read(READ_BYTES):
                sha256.update(piece)
                if not file.sha256:
                    git.update(piece)
                on_bytes(len(piece))
        is_wrong = (
            path.stat().st_size != file.size_bytes
            or (file.sha256 and sha256.hexdigest() != file.sha256)
            or (not file.sha256 and file.git_sha1 and git.hexdigest() != file.git_sha1)
        )
        if is_wrong:
            self._forget(number)
            raise DownloadFailed(
                ErrorText("pull_checksum_wrong", name=file.name),
                param="model",
                suggestions=(ErrorText("pull_again"),),
            )

    def publish(self, folder: PurePosixPath | None) -> None:
        """Give the files their own names, the first of a model at last.

        Args:
            folder: the model's own, which appears at once.
        Raises:
            InvalidRequest: something has taken the name meanwhile.
        """
        if folder is None:
            for number, (_, path) in reversed([*enumerate(self._files)]):
                self._move(self.part(number), path)
        else:
            tree = self.folder / "tree"
            for number, (_, path) in enumerate(self._files):
                place = tree / path.relative_to(folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.part(number), place)
            self._move(tree, folder)
        self.discard()

    def discard(self) -> None:
        """Delete what is there of the download."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.done.clear()

    def _forget(self, number: int) -> None:
        """Let a file be fetched anew; the others stay."""
        self.part(number).unlink()
        self.done = {part for part in self.done if part[0] != number}
        lines = "".join(f"{one} {begin}\n" for one, begin in sorted(self.done))
        (self.folder / JOURNAL).write_text(lines, "ascii")

    def _move(self, source: Path, path: PurePosixPath) -> None:
        place = within(self._models_dir, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(place):
            raise name_taken(path)
        os.rename(source, place)

    def _read_journal(self) -> None:
        try:
            lines = (self.folder / JOURNAL).read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            number, _, begin = line.partition(" ")
            # The last line may be cut.
            if number.isdecimal() and begin.isdecimal() and self.part(int(number)).is_file():
                self.done.add((int(number), int(begin)))

    def _forget_old(self) -> None:
        """Delete what nobody went on with, and the lock files of finished downloads."""
        for entry in self._root.iterdir():
            is_own = entry.name.startswith(self.folder.name)
            if is_own or time.time() - entry.stat().st_mtime < FORGOTTEN_AFTER_S:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def name_taken(path: PurePosixPath) -> InvalidRequest:
    return InvalidRequest(
        ErrorText("pull_name_taken", name=str(path)),
        param="model",
        suggestions=(ErrorText("delete_first"),),
    )


def _key(files: Files) -> str:
    """The same for the same content at the same place."""
    facts = "\0".join(
        f"{path}\0{file.address}\0{file.size_bytes}\0{file.sha256 or file.git_sha1}"
        for file, path in files
    )
    return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:24]
