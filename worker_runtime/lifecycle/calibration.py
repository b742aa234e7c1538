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
from worker_runtime.lifecycle.load_options import LoadOption, LoadOptions
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import ProcessMemory

FILE = "memory.json"
MAX_CORRECTIONS = 512
MAX_FILE_BYTES = 64 * 1024
LOCK_S = 0.2
# Of what was computed: errors below both are none, corrections beyond are not believed.
TOLERATED_SHARE, TOLERATED_BYTES = 0.1, 64 << 20
LEAST_SHARE, MOST_SHARE = -0.5, 1.0

log = logging.getLogger(__name__)


class Calibration:
    """
    Args:
        file: made when there is something to say.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = filelock.FileLock(file.with_suffix(".lock"))

    def corrected(self, load_options: LoadOptions) -> LoadOptions:
        """`load_options`, its needs with what was learnt of them."""

        def options(entry: ModelEntry) -> Sequence[LoadOption]:
            errors = self._read()
            return [_corrected(option, errors) for option in load_options(entry)]

        return options

    def note(self, option: LoadOption, held: ProcessMemory) -> None:
        """What the process of `option` holds, at any time after its load."""
        key, errors = _key(option), self._read()
        known, seen = errors.get(key), _error(_computed(option.need), held)
        error = seen if known is None else max(known, seen)
        if error == (known or 0):
            return
        try:
            self._write(key, error)
        except (OSError, filelock.Timeout) as failure:
            log.warning("what model %s really takes is not kept: %s", option.entry.id, failure)

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
            kept = [*errors.items(), (key, error)][-MAX_CORRECTIONS:]
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(dict(kept)))
            with contextlib.suppress(PermissionError):
                # On Windows somebody may be reading it; the next lesson comes.
                fresh.replace(self._file)


def _corrected(option: LoadOption, errors: dict[str, int]) -> LoadOption:
    error = errors.get(_key(option), 0)
    computed = _computed(option.need).total
    error = min(max(error, int(LEAST_SHARE * computed)), int(MOST_SHARE * computed))
    return replace(option, need=replace(option.need, correction=error)) if error else option


def _key(option: LoadOption) -> str:
    """Of the model's files, how they are loaded, and what was computed for that."""
    said = (option.entry.fingerprint, bytes(option.entry.load_spec), _computed(option.need).total)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def _computed(need: Need) -> Need:
    return replace(need, correction=0, converting=0)


def _error(need: Need, held: ProcessMemory) -> int:
    """What it holds beyond `need`, or falls short of it by even with all that comes with use."""
    seen = held.resident_bytes
    if not need.loading:
        seen = max(seen, held.peak_bytes)
    most = seen + need.kv + need.compute + need.caches
    error = max(seen - need.total, min(most - need.total, 0))
    return error if abs(error) > max(TOLERATED_BYTES, TOLERATED_SHARE * need.total) else 0
