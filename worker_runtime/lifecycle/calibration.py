"""Corrects memory estimates by how far off the estimates of earlier loads were.

A correction belongs to one model and one way of loading it. Corrections are kept in a small file
that all workers of a user share. Errors within the tolerated range are ignored. A correction is
never lowered, because the same model may do less work the next time.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import filelock
from msgspec.structs import replace

from worker_runtime.catalog import ModelEntry
from worker_runtime.learnt_table import LearntTable
from worker_runtime.lifecycle.load_options import LoadOption, LoadOptions
from worker_runtime.memory.need import Need
from worker_runtime.memory.probe import ProcessMemory

FILE = "memory.json"
MAX_CORRECTIONS = 512
MAX_FILE_BYTES = 64 * 1024
# Shares are of the estimate. Errors up to the larger tolerated bound are ignored; corrections are
# cut to the range from LEAST_SHARE to MOST_SHARE.
TOLERATED_SHARE, TOLERATED_BYTES = 0.1, 64 << 20
LEAST_SHARE, MOST_SHARE = -0.5, 1.0

log = logging.getLogger(__name__)


class Calibration:
    """The corrections of memory estimates, in a file.

    Args:
        file: holds the corrections; it is created with the first one.
    """

    def __init__(self, file: Path) -> None:
        self._table = LearntTable(
            file, dict[str, int], max_entries=MAX_CORRECTIONS, max_bytes=MAX_FILE_BYTES
        )

    def corrected(self, load_options: LoadOptions) -> LoadOptions:
        """Return `load_options` with the corrections applied to the memory estimates."""

        def options(entry: ModelEntry) -> Sequence[LoadOption]:
            errors = self._table.read()
            return [_corrected(option, errors) for option in load_options(entry)]

        return options

    def note(self, option: LoadOption, held: ProcessMemory) -> None:
        """Compare the estimate of `option` with what its process holds, at any time after the
        load."""
        key, errors = _key(option), self._table.read()
        known, seen = errors.get(key), _error(_computed(option.need), held)
        error = seen if known is None else max(known, seen)
        if error == (known or 0):
            return
        try:
            self._table.put(key, error)
        except (OSError, filelock.Timeout) as failure:
            log.warning("memory use of model %s was not saved: %s", option.entry.id, failure)


def _corrected(option: LoadOption, errors: dict[str, int]) -> LoadOption:
    error = errors.get(_key(option), 0)
    computed = _computed(option.need).total
    error = min(max(error, int(LEAST_SHARE * computed)), int(MOST_SHARE * computed))
    return replace(option, need=replace(option.need, correction=error)) if error else option


def _key(option: LoadOption) -> str:
    """A hash of the model's files, of how they are loaded, and of the estimate for that."""
    entry = option.entry
    # How much a model may keep of past work differs from load to load.
    need = replace(_computed(option.need), caches=0)
    facts = (entry.fingerprint, bytes(entry.load_spec), need.total)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _computed(need: Need) -> Need:
    return replace(need, correction=0, converting=0)


def _error(need: Need, held: ProcessMemory) -> int:
    """Bytes that the process holds beyond `need`; negative if full caches would still leave it
    below."""
    seen = held.resident_bytes
    if not need.loading:
        seen = max(seen, held.peak_bytes)
    most = seen + need.kv + need.compute + need.caches
    error = max(seen - need.total, min(most - need.total, 0))
    return error if abs(error) > max(TOLERATED_BYTES, TOLERATED_SHARE * need.total) else 0
