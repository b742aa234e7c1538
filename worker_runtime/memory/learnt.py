"""What past loads taught: how far off the estimate of the same model, loaded the same way, was.

A small file that all of a user's workers share. Only errors beyond what estimates promise count; a
lesson that a model takes more stays, as the same model may do less work the next time.
"""

import contextlib
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import filelock
import msgspec
from msgspec.structs import replace

from worker_runtime.catalog import ModelEntry
from worker_runtime.ladder import Ladder, Rung
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import ProcessMemory

FILE = "memory.json"
MAX_LESSONS = 512
MAX_FILE_BYTES = 64 * 1024
LOCK_S = 0.2
# Of what was computed: errors below both are none, corrections beyond are not believed.
TOLERATED_SHARE, TOLERATED_BYTES = 0.1, 64 << 20
LEAST_SHARE, MOST_SHARE = -0.5, 1.0

log = logging.getLogger(__name__)


class Learnt:
    """
    Args:
        file: made when there is something to say.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = filelock.FileLock(file.with_suffix(".lock"))

    def corrected(self, ladder: Ladder) -> Ladder:
        """`ladder`, its needs with what was learnt of them."""

        def rungs(entry: ModelEntry) -> Sequence[Rung]:
            errors = self._read()
            return [_corrected(rung, errors) for rung in ladder(entry)]

        return rungs

    def note(self, rung: Rung, held: ProcessMemory) -> None:
        """What the process of `rung` holds, at any time after its load."""
        key, errors = _key(rung), self._read()
        known, seen = errors.get(key), _error(_computed(rung.need), held)
        error = seen if known is None else max(known, seen)
        if error == (known or 0):
            return
        try:
            self._write(key, error)
        except (OSError, filelock.Timeout) as failure:
            log.warning("what model %s really takes is not kept: %s", rung.entry.id, failure)

    def _read(self) -> dict[str, int]:
        try:
            with self._file.open("rb") as file:
                return msgspec.json.decode(file.read(MAX_FILE_BYTES), type=dict[str, int])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            # Not there yet, or not ours: it is written anew.
            return {}

    def _write(self, key: str, error: int) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.acquire(timeout=LOCK_S, poll_interval=0.01):
            errors = self._read()
            # The latest last: the first go when there are too many.
            errors.pop(key, None)
            kept = [*errors.items(), (key, error)][-MAX_LESSONS:]
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(dict(kept)))
            with contextlib.suppress(PermissionError):
                # On Windows somebody may be reading it; the next lesson comes.
                fresh.replace(self._file)


def _corrected(rung: Rung, errors: dict[str, int]) -> Rung:
    error = errors.get(_key(rung), 0)
    computed = rung.need.total
    error = min(max(error, int(LEAST_SHARE * computed)), int(MOST_SHARE * computed))
    return replace(rung, need=replace(rung.need, correction=error)) if error else rung


def _key(rung: Rung) -> str:
    """Of the model's files, how they are loaded, and what was computed for that."""
    said = (rung.entry.fingerprint, bytes(rung.entry.load_spec), _computed(rung.need).total)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def _computed(need: Need) -> Need:
    return replace(need, correction=0)


def _error(need: Need, held: ProcessMemory) -> int:
    """What it holds beyond `need`, or falls short of it by even with all that comes with use."""
    seen = held.resident_bytes
    if not need.loading:
        seen = max(seen, held.peak_bytes)
    most = seen + need.kv + need.compute + need.caches
    error = max(seen - need.total, min(most - need.total, 0))
    return error if abs(error) > max(TOLERATED_BYTES, TOLERATED_SHARE * need.total) else 0
