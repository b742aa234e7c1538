"""Measures models that two backends can run, each once, while the worker is idle.

The first load of a model must not wait for that, so it takes the backend that its format is for.
The next load takes the one that was measured to be faster.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Never

import msgspec

from chat_worker.backend_speeds import Comparison, Speeds
from chat_worker.conversions import forget_conversion
from chat_worker.load_options import ChatLoadOptions
from chat_worker.pipe_messages import Facts, spec_decoder
from common.errors import ServingError
from worker_runtime.catalog import ModelEntry
from worker_runtime.clock import Clock, SystemClock
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.manager import Models
from worker_runtime.lifecycle.trial import Tried
from worker_runtime.model_files.errors import InvalidModelFile

# Seconds between two looks at whether the worker is idle.
LOOK_S = 5.0
# Seconds until a trial that was cut short, or for which memory was short, is begun again.
RETRY_S = 60.0

log = logging.getLogger(__name__)


@asynccontextmanager
async def trials_while_idle(
    models: Models, load_options: ChatLoadOptions, idle_s: float
) -> AsyncGenerator[None, None]:
    """Inside the `async with` block models are measured; never if `idle_s` is 0."""
    trials = BackendTrials(models, load_options, SystemClock(), idle_s)
    running = asyncio.create_task(trials.run()) if idle_s else None
    try:
        yield
    finally:
        if running is not None:
            running.cancel()
            await asyncio.wait({running})


class BackendTrials:
    """
    Args:
        idle_s: how long there must have been no request.
    """

    def __init__(
        self, models: Models, load_options: ChatLoadOptions, clock: Clock, idle_s: float
    ) -> None:
        self._models = models
        self._load_options = load_options
        self._clock = clock
        self._idle_s = idle_s
        # Models that need no trial, by fingerprint.
        self._settled: set[str] = set()

    async def run(self) -> Never:
        while True:
            await self._clock.sleep(min(LOOK_S, self._idle_s))
            entry = self._due()
            if entry is None:
                continue
            try:
                is_settled = await self._compare(entry)
            except (ServingError, InvalidModelFile, OSError) as error:
                log.warning("the backends of model %s were not compared: %s", entry.id, error)
                is_settled = True
            if is_settled:
                self._settled.add(entry.fingerprint)
            else:
                await self._clock.sleep(RETRY_S)

    def _due(self) -> ModelEntry | None:
        """A model that was used here and is to be measured; None while anything is used."""
        used = [s for s in self._models.snapshot() if s.counters.loads]
        if self._models.is_busy or any((s.idle_s or 0) < self._idle_s for s in used):
            return None
        # As the catalogue has them: what is loaded may be smaller, or run by another backend.
        ids = {snapshot.entry.id for snapshot in used}
        entries = (entry for entry in self._models.catalog.entries() if entry.id in ids)
        return next((e for e in entries if e.fingerprint not in self._settled), None)

    async def _compare(self, entry: ModelEntry) -> bool:
        """Returns whether that is done: measured now or before, or there is nothing to choose."""
        options = await asyncio.to_thread(self._load_options.to_compare, entry)
        if options is None:
            return True
        found = await self._measured(*options)
        if found is None:
            return False
        log.info("model %s: %s", entry.id, found.text)
        await asyncio.to_thread(self._load_options.speeds.note, entry, found)
        if not found.prefers_openvino:
            spec = spec_decoder.decode(options[1].entry.load_spec)
            await asyncio.to_thread(forget_conversion, spec)
        return True

    async def _measured(self, own: LoadOption, other: LoadOption) -> Comparison | None:
        """None if there was no memory for that, or a request came."""
        found = await self._models.try_load(own)
        if found is None:
            return None
        backend, speeds = own.entry.backend, _speeds(found)
        try:
            tried = await self._models.try_load(other)
        except ServingError as error:
            return Comparison(backend, speeds, refusal=str(error))
        return None if tried is None else Comparison(backend, speeds, _speeds(tried))


def _speeds(tried: Tried) -> Speeds:
    facts = msgspec.msgpack.decode(tried.facts, type=Facts)
    return Speeds(facts.prompt_speed, facts.answer_speed, tried.memory_bytes)
