"""The models of one worker: which there are, and which one a request means.

Ids are keys of this catalogue and nothing else: a request never names a path.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from common.errors import BackendLoadFailed, ModelNotFound
from common.model_ids import same_model_id
from worker_runtime.clock import Clock

Capability = Literal["chat", "embed"]
MAX_SUGGESTED = 10
MAX_ECHO = 64


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
    """The result of the latest scan, looked at again after `ttl_s` seconds.

    Args:
        scan: looks at the disk; called on the event loop, so it must be quick (it caches what
            it has read of unchanged files, see `model_folders`).
        ttl_s: age in seconds at which `resolve` and `entries` scan again.
    """

    def __init__(self, scan: Callable[[], Scan], *, ttl_s: float, clock: Clock) -> None:
        self._scan = scan
        self._clock = clock
        self.ttl_s = ttl_s
        self._entries: dict[str, ModelEntry] = {}
        self._default_id = ""
        self._scanned_at_s: float | None = None
        # How often the disk was looked at; tells whoever keeps something by entry when to compare.
        self.n_scans = 0

    def resolve(self, model: str) -> ModelEntry:
        """The entry that `model` means: an id, in any case; "" is the default model.

        Raises:
            ModelNotFound: no such model, with the known ids as suggestions.
            BackendLoadFailed: its files are broken, with the reason.
        """
        self._refresh()
        entry = self._find(model or self._default_id)
        if entry is None:
            raise self._not_found(model)
        if entry.broken:
            raise BackendLoadFailed(
                f"the model {entry.id!r} cannot be loaded: {entry.broken}",
                param="model",
                suggestions=(
                    "download the model's files again",
                    *(f"use the model {other}" for other in self._usable_ids()),
                ),
                metadata={"backend": entry.backend, "cause": "files"},
            )
        return entry

    def entries(self) -> list[ModelEntry]:
        """All models, broken ones too, in the scan's order."""
        self._refresh()
        return list(self._entries.values())

    @property
    def default_id(self) -> str:
        """Id of the model that serves requests that name none; empty if there is none."""
        return self._default_id

    def rescan(self) -> list[ModelEntry]:
        """Look at the disk now."""
        found = self._scan()
        self._entries = {}
        for entry in found.entries:
            self._entries.setdefault(entry.id, entry)
        self._default_id = found.default_id
        self._scanned_at_s = self._clock.monotonic()
        self.n_scans += 1
        return list(self._entries.values())

    def _refresh(self) -> None:
        scanned = self._scanned_at_s
        if scanned is None or self._clock.monotonic() - scanned >= self.ttl_s:
            self.rescan()

    def _find(self, model: str) -> ModelEntry | None:
        if model in self._entries:
            return self._entries[model]
        return next((e for e in self._entries.values() if same_model_id(e.id, model)), None)

    def _not_found(self, model: str) -> ModelNotFound:
        if model:
            shown = model if len(model) <= MAX_ECHO else model[:MAX_ECHO] + "…"
            message = f"the model {shown!r} does not exist"
        else:
            message = "there is no model here yet"
        suggestions = self._usable_ids() or ("put a model into the models folder and rescan it",)
        return ModelNotFound(message, param="model", suggestions=suggestions)

    def _usable_ids(self) -> tuple[str, ...]:
        return tuple(e.id for e in self._entries.values() if not e.broken)[:MAX_SUGGESTED]


def fingerprint(path: Path, size_bytes: int, mtime_ns: int, backend: str, version: str) -> str:
    """Changes when weights, backend or its version change; cheap, gigabytes are not hashed."""
    facts = f"{path.resolve()}\0{size_bytes}\0{mtime_ns}\0{backend}\0{version}"
    return "fp_" + hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:16]
