"""The batches of one gateway: its store, and the task that runs them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import filelock
from starlette.types import ASGIApp

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.batches.records import Batch
from gateway.batches.runner import BatchRunner, MakeContext
from gateway.batches.store import BatchStore
from gateway.idle_time import ForegroundRequests

log = logging.getLogger(__name__)


class Batches:
    """
    Args:
        folder: None: there are none.
        max_bytes: of all files together.
        longest_bytes: of one request.
    """

    def __init__(self, folder: Path | None, max_bytes: int, longest_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._longest_bytes = longest_bytes
        self._store: BatchStore | None = None
        self._runner: BatchRunner | None = None
        self.foreground = ForegroundRequests()

    @property
    def store(self) -> BatchStore:
        """
        Raises:
            InvalidRequest: this gateway has no folder for batches, or another one uses it.
        """
        if self._store is None:
            raise InvalidRequest(
                ErrorText("batches_off"),
                suggestions=(ErrorText("set_setting", setting="BATCHES_PATH"),),
            )
        return self._store

    def changed(self, batch: Batch) -> None:
        """Store a batch that was added or is to be cancelled, and look after it."""
        self.store.save(batch)
        if self._runner is not None:
            self._runner.wake()

    @asynccontextmanager
    async def running(self, app: ASGIApp, make_context: MakeContext) -> AsyncIterator[None]:
        """Run batches until the end.

        Args:
            app: answers their requests.
        """
        if self._folder is None:
            yield
            return
        try:
            self._store = await asyncio.to_thread(BatchStore, self._folder, self._max_bytes)
        except (OSError, ValueError, filelock.Timeout) as error:
            log.error("no batches are taken: %s: %s", self._folder, error)
            yield
            return
        self._runner = BatchRunner(
            self._store, app, self.foreground, make_context, self._longest_bytes
        )
        running = asyncio.create_task(self._runner.run())
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            self._store.close()
            self._store = None
