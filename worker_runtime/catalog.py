"""The models of one worker: which there are, and which one a request means.

Ids are keys of this catalogue and nothing else: a request never names a path.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Never

import msgspec

from common.error_texts import ErrorText
from common.errors import BackendFailure, BackendLoadFailed, ModelNotFound, NotReady
from common.model_ids import folded_id
from worker_runtime.aio import Changes, first_of
from worker_runtime.clock import Clock
from worker_runtime.model_files.foreign_files import real_path
from worker_runtime.off_loop import OffLoop, in_thread

Capability = Literal["chat", "embed"]
MAX_SUGGESTED = 10
MAX_ECHO = 64

log = logging.getLogger(__name__)


class ModelEntry(msgspec.Struct, frozen=True):
    """One model on disk."""

    id: str
    capability: Capability
    # "llama.cpp", "transformers", "sentence-transformers", …
    backend: str
    path: Path
    # Weights on disk.
    size_bytes: int
    # Last change of the weights, seconds since the epoch.
    created_s: int
    # Tokens; 0 while unknown.
    context_length: int
    # "fp_" and 16 hex digits; see `fingerprint`.
    fingerprint: str
    # What the engine process gets as `Load.spec`; the worker's own struct, encoded by `wire.raw`.
    load_spec: msgspec.Raw
    # Run as `python -m …`: "chat_worker.engine_process".
    engine_module: str
    # Why it cannot be loaded (a bad header, …): such a model is listed and never loaded.
    broken: str = ""


class Scan(msgspec.Struct, frozen=True):
    """What one look at the disk found."""

    entries: list[ModelEntry]
    # Serves requests that name no model; empty if there is none.
    default_id: str = ""


class Catalog:
    """The result of the latest scan; one task repeats it, so that there is never more than one.

    Args:
        scan: looks at the disk, which may take as long as it likes: it never runs on the event
            loop, and what is known meanwhile is what the scan before it found.
        ttl_s: age in seconds at which the disk is looked at again.
    """

    def __init__(
        self,
        scan: Callable[[], Scan],
        *,
        ttl_s: float,
        clock: Clock,
        off_loop: OffLoop = in_thread,
    ) -> None:
        self._scan = scan
        self._clock = clock
        self._off_loop = off_loop
        self.ttl_s = ttl_s
        self._entries: dict[str, ModelEntry] = {}
        self._by_spelling: dict[str, ModelEntry] = {}
        self._default_id = ""
        # How often a scan changed what is known here; tells whoever keeps something by entry when
        # to compare.
        self.n_scans = 0
        self._asked = asyncio.Event()
        self._ended = Changes()
        self._n_begun = self._n_ended = 0
        # Whether the latest scan ended in a bug.
        self._failed = False

    async def keep_fresh(self) -> Never:
        """The one task that looks at the disk: at once, when it is asked to, and with time."""
        while True:
            self._asked.clear()
            self._n_begun += 1
            try:
                self.accept(await self._off_loop(self._scan))
                self._failed = False
            except Exception:
                # This task's outermost loop: what was known stays, and the next scan may do better.
                log.exception("looking for models ended in a bug")
                self._failed = True
            self._n_ended = self._n_begun
            self._ended.notify()
            await first_of(self._asked.wait(), self._clock.sleep(self.ttl_s))

    async def first_scan(self) -> None:
        """Return when the disk has been looked at."""
        await self._ended.until(lambda: self._n_ended > 0)

    async def rescan(self) -> list[ModelEntry]:
        """What a look at the disk finds that begins after this call; those who call meanwhile
        share it.

        Raises:
            BackendFailure: it ended in a bug.
        """
        wanted = self._n_begun + 1
        self._asked.set()
        await self._ended.until(lambda: self._n_ended >= wanted)
        if self._failed:
            raise BackendFailure(ErrorText("scan_failed"))
        return self.entries()

    def accept(self, found: Scan) -> None:
        """Know what a scan found."""
        self._entries, self._by_spelling = {}, {}
        for entry in found.entries:
            self._entries.setdefault(entry.id, entry)
            self._by_spelling.setdefault(folded_id(entry.id), entry)
        self._default_id = found.default_id
        self.n_scans += 1

    def resolve(self, model: str) -> ModelEntry:
        """The entry that `model` means: an id, in any case and normal form; "" is the default
        model.

        Raises:
            ModelNotFound: no such model, with the known ids as suggestions.
            BackendLoadFailed: its files are broken, with the reason.
            NotReady: the disk has not been looked at yet.
        """
        if not self.n_scans:
            raise NotReady(ErrorText("scan_not_ended"), retry_after_s=1)
        entry = self._find(model or self._default_id)
        if entry is None:
            raise self._not_found(model)
        if entry.broken:
            raise BackendLoadFailed(
                ErrorText("model_broken", model=entry.id, detail=entry.broken),
                param="model",
                suggestions=(
                    ErrorText("download_model"),
                    *(ErrorText("use_model", model=other) for other in self._usable_ids()),
                ),
                metadata={"backend": entry.backend, "cause": "files"},
            )
        return entry

    def entries(self) -> list[ModelEntry]:
        """All models, broken ones too, in the scan's order."""
        return list(self._entries.values())

    @property
    def default_id(self) -> str:
        """Id of the model that serves requests that name none; empty if there is none."""
        return self._default_id

    def _find(self, model: str) -> ModelEntry | None:
        return self._entries.get(model) or self._by_spelling.get(folded_id(model))

    def _not_found(self, model: str) -> ModelNotFound:
        if model:
            shown = model if len(model) <= MAX_ECHO else model[:MAX_ECHO] + "…"
            message = ErrorText("model_not_found", model=shown)
        else:
            message = ErrorText("no_model_yet")
        suggestions = self._usable_ids() or (ErrorText("add_model"),)
        return ModelNotFound(message, param="model", suggestions=suggestions)

    def _usable_ids(self) -> tuple[str, ...]:
        return tuple(e.id for e in self._entries.values() if not e.broken)[:MAX_SUGGESTED]


def fingerprint(path: Path, size_bytes: int, mtime_ns: int, backend: str, version: str) -> str:
    """Changes when weights, backend or its version change; cheap, gigabytes are not hashed."""
    facts = f"{real_path(path)}\0{size_bytes}\0{mtime_ns}\0{backend}\0{version}"
    return "fp_" + hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:16]
