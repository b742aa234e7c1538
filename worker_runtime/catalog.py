"""The catalogue of one worker's models, which resolves the model id of a request.

Ids are keys of this catalogue only: a request never names a path.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Never

import msgspec

from common.error_texts import ErrorText, echoed
from common.errors import BackendFailure, BackendLoadFailed, ModelNotFound, NotReady
from common.model_ids import folded_id
from worker_runtime.aio import Changes, first_of
from worker_runtime.clock import Clock
from worker_runtime.model_files.foreign_files import real_path
from worker_runtime.model_files.models_toml import NO_OPTIONS, ModelOptions
from worker_runtime.off_loop import OffLoop, in_thread

FileState = tuple[int, int]
Capability = Literal["chat", "embed"]
MAX_SUGGESTED = 10
# Seconds between two looks at a watched file.
WATCH_S = 2.0

log = logging.getLogger(__name__)


class ModelFacts(msgspec.Struct, frozen=True):
    """What a model's files state about it; empty or 0 where that is unknown. The fields are those
    of the contract's `ModelFacts`."""

    format: str = ""
    family: str = ""
    n_parameters: int = 0
    quantization: str = ""
    embedding_length: int = 0
    trained_context: int = 0
    abilities: tuple[str, ...] = ()


class ModelEntry(msgspec.Struct, frozen=True):
    """One model on disk."""

    id: str
    capability: Capability
    # Such as "llama.cpp", "transformers", "sentence-transformers".
    backend: str
    path: Path
    # Size of the weights on disk.
    size_bytes: int
    # When the weights were last changed, in seconds since the epoch.
    created_s: int
    # In tokens; 0 while unknown.
    context_length: int
    # "fp_" and 16 hex digits; see `fingerprint`.
    fingerprint: str
    # `Load.spec` for the engine process: the worker's own struct, encoded by `protocol.raw`.
    load_spec: msgspec.Raw
    # The module to run with `python -m`, such as "chat_worker.engine_process".
    engine_module: str
    # Why the model cannot be loaded, such as a bad header. It is listed, but never loaded.
    broken: str = ""
    # The command that installs what it lacks; empty if other files are needed.
    remedy: str = ""
    # Why its backend was chosen; empty if its format decides.
    backend_reason: str = ""
    facts: ModelFacts = ModelFacts()
    # What models.toml says of it.
    options: ModelOptions = NO_OPTIONS


class Scan(msgspec.Struct, frozen=True):
    """The result of one scan of the disk."""

    entries: list[ModelEntry]
    # The id of the model for requests that name none; empty if there is none.
    default_id: str = ""
    # What is wrong with models.toml; empty: nothing.
    problem: str = ""


class Catalog:
    """The result of the latest scan. One task repeats the scan, so two never run at once.

    Args:
        scan: scans the disk. It may take any time, because it never runs on the event loop; until
            it ends, the result of the scan before it is used.
        ttl_s: after this many seconds the scan is repeated.
        watched: a file whose change is noticed within `WATCH_S`, and causes a scan.
    """

    def __init__(
        self,
        scan: Callable[[], Scan],
        *,
        ttl_s: float,
        clock: Clock,
        off_loop: OffLoop = in_thread,
        watched: Path | None = None,
    ) -> None:
        self._scan = scan
        self._watched = watched
        self._clock = clock
        self._off_loop = off_loop
        self.ttl_s = ttl_s
        self._entries: dict[str, ModelEntry] = {}
        self._by_spelling: dict[str, ModelEntry] = {}
        self._default_id = ""
        self._problem = ""
        # How many scans changed the catalogue. Code that keeps something per entry compares this
        # number to notice a change.
        self.n_scans = 0
        self._asked = asyncio.Event()
        self._ended = Changes()
        self._n_begun = self._n_ended = 0
        # Whether the latest scan failed because of a bug.
        self._failed = False

    async def keep_fresh(self) -> Never:
        """The one task that scans the disk: at the start, on request, and every `ttl_s` seconds."""
        while True:
            self._asked.clear()
            self._n_begun += 1
            seen = await self._watched_state()
            try:
                self.accept(await self._off_loop(self._scan))
                self._failed = False
            except Exception:
                # This task's outermost loop: the old result stays in use, and the next scan may
                # succeed.
                log.exception("the scan for models failed because of a bug")
                self._failed = True
            self._n_ended = self._n_begun
            self._ended.notify()
            await first_of(self._asked.wait(), self._clock.sleep(self.ttl_s), self._changed(seen))

    async def _changed(self, before: FileState | None) -> None:
        """Return when the watched file is not as it was."""
        if self._watched is None:
            await asyncio.Event().wait()
        while await self._watched_state() == before:
            await self._clock.sleep(WATCH_S)

    async def _watched_state(self) -> FileState | None:
        watched = self._watched
        return None if watched is None else await self._off_loop(lambda: _state(watched))

    async def next_change(self, after: int) -> None:
        """Wait until `n_scans` is greater than `after`."""
        await self._ended.until(lambda: self.n_scans > after)

    async def first_scan(self) -> None:
        """Wait until the disk has been scanned once."""
        await self._ended.until(lambda: self._n_ended > 0)

    async def rescan(self) -> list[ModelEntry]:
        """The result of a scan that begins after this call; concurrent callers share one scan.

        Raises:
            BackendFailure: the scan failed because of a bug.
        """
        wanted = self._n_begun + 1
        self._asked.set()
        await self._ended.until(lambda: self._n_ended >= wanted)
        if self._failed:
            raise BackendFailure(ErrorText("scan_failed"))
        return self.entries()

    def accept(self, found: Scan) -> None:
        """Replace the catalogue with the result of a scan."""
        self._entries, self._by_spelling = {}, {}
        for entry in found.entries:
            self._entries.setdefault(entry.id, entry)
            self._by_spelling.setdefault(folded_id(entry.id), entry)
        self._default_id = found.default_id
        if found.problem and found.problem != self._problem:
            log.error("%s; what it said before stays in force", found.problem)
        self._problem = found.problem
        self.n_scans += 1

    def resolve(self, model: str) -> ModelEntry:
        """The entry for an id in any case and Unicode normal form; "" is the default model.

        Raises:
            ModelNotFound: there is no such model; suggestions list the known ids.
            BackendLoadFailed: the model's files are broken; the error has the reason.
            NotReady: the disk has not been scanned yet.
        """
        if not self.n_scans:
            raise NotReady(ErrorText("scan_not_ended"), retry_after_s=1)
        entry = self._find(model or self._default_id)
        if entry is None:
            raise self._not_found(model)
        if entry.broken:
            install = ErrorText("install", command=entry.remedy)
            raise BackendLoadFailed(
                ErrorText("model_broken", model=entry.id, detail=entry.broken),
                param="model",
                suggestions=(
                    install if entry.remedy else ErrorText("download_model"),
                    *(ErrorText("use_model", model=other) for other in self._usable_ids()),
                ),
                metadata={
                    "backend": entry.backend,
                    "cause": "library" if entry.remedy else "files",
                },
            )
        return entry

    def entries(self) -> list[ModelEntry]:
        """All models in the scan's order, broken ones included."""
        return list(self._entries.values())

    @property
    def default_id(self) -> str:
        """The id of the model for requests that name none; empty if there is none."""
        return self._default_id

    def _find(self, model: str) -> ModelEntry | None:
        return self._entries.get(model) or self._by_spelling.get(folded_id(model))

    def _not_found(self, model: str) -> ModelNotFound:
        if model:
            message = ErrorText("model_not_found", model=echoed(model))
        else:
            message = ErrorText("no_model_yet")
        suggestions = self._usable_ids() or (ErrorText("add_model"),)
        return ModelNotFound(message, param="model", suggestions=suggestions)

    def _usable_ids(self) -> tuple[str, ...]:
        return tuple(e.id for e in self._entries.values() if not e.broken)[:MAX_SUGGESTED]


def _state(path: Path) -> FileState | None:
    """Time and size of a file; None if it cannot be looked at."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def fingerprint(path: Path, size_bytes: int, mtime_ns: int, backend: str, version: str) -> str:
    """Changes with weights, backend or its version. Weights are not hashed, as that takes long."""
    facts = f"{real_path(path)}\0{size_bytes}\0{mtime_ns}\0{backend}\0{version}"
    return "fp_" + hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:16]
