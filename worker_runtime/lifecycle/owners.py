"""The owner tasks of one worker, one for each model that was ever asked for. They follow the
catalogue: an owner learns what a scan changed of its model, and ends when its model is gone."""

import asyncio
from collections.abc import Iterator

from common.error_texts import ErrorText
from common.errors import NotReady
from worker_runtime.catalog import Catalog, ModelEntry
from worker_runtime.lifecycle.load import LifecycleContext
from worker_runtime.lifecycle.owner import ModelOwner
from worker_runtime.lifecycle.snapshot import Counters, ModelSnapshot, ModelState


class Owners:
    """
    Args:
        tasks: the group in which the owner tasks run.
    """

    def __init__(
        self, catalog: Catalog, context: LifecycleContext, tasks: asyncio.TaskGroup
    ) -> None:
        self._catalog = catalog
        self._context = context
        self._tasks = tasks
        self._owners: dict[str, ModelOwner] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._compared_scan = 0
        self.closing = False

    def __iter__(self) -> Iterator[ModelOwner]:
        return iter(self._owners.values())

    def of(self, model: str) -> ModelOwner:
        """The owner of `model` ("" is the default model); it is started if there is none.

        Raises:
            ModelNotFound: there is no such model.
            BackendLoadFailed: the model's files are broken.
            NotReady: the worker is shutting down, or has not scanned the disk yet.
        """
        entry = self._catalog.resolve(model)
        self._compare(self._catalog.entries())
        owner = self._owners.get(entry.id)
        if owner is None or owner.closing:
            owner = self._start(entry)
        return owner

    def started(self, model: str) -> ModelOwner | None:
        """The owner of `model`; None if nobody asked for the model yet.

        Raises:
            ModelNotFound: there is no such model.
        """
        return self._owners.get(self._catalog.resolve(model).id)

    def snapshot(self) -> list[ModelSnapshot]:
        """The state of all models of the catalogue. This wakes, loads and refreshes nothing."""
        entries = self._catalog.entries()
        self._compare(entries)
        default = self._catalog.default_id
        return [self._snapshot_of(entry, is_default=entry.id == default) for entry in entries]

    async def close(self, *, hurry: bool) -> None:
        """Start no more owners, and return when all have ended; `hurry`: without draining."""
        self.closing = True
        for owner in self:
            owner.close(hurry=hurry)
        while self._running:
            await asyncio.wait(self._running)

    def _start(self, entry: ModelEntry) -> ModelOwner:
        if self.closing:
            raise NotReady(ErrorText("worker_stopping"), retry_after_s=5)
        owner = ModelOwner(entry, self._context)
        self._owners[entry.id] = owner
        task = self._tasks.create_task(owner.run(), name=f"owner of {entry.id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return owner

    def _compare(self, entries: list[ModelEntry]) -> None:
        """Notify the owners of entries that a new scan changed."""
        if self._compared_scan == self._catalog.n_scans:
            return
        self._compared_scan = self._catalog.n_scans
        present = {entry.id: entry for entry in entries if not entry.broken}
        for model, owner in list(self._owners.items()):
            entry = present.get(model)
            if entry is None:
                owner.close()
                del self._owners[model]
            else:
                owner.update(entry)

    def _snapshot_of(self, entry: ModelEntry, *, is_default: bool) -> ModelSnapshot:
        owner = self._owners.get(entry.id)
        if owner is not None:
            return owner.snapshot(is_default=is_default)
        state = ModelState.FAILED if entry.broken else ModelState.UNLOADED
        return ModelSnapshot(entry, is_default, state, Counters(), failure=entry.broken)
