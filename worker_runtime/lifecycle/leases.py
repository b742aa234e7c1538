"""Leases: the right to use a loaded model, and the count of those that are held."""

import asyncio
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from worker_runtime.cache_counts import CacheCounts
from worker_runtime.catalog import ModelEntry
from worker_runtime.clock import Clock
from worker_runtime.engine_process.interface import EngineProcess
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.snapshot import Counters
from worker_runtime.memory.probe import MemoryProbe, ProcessMemory
from worker_runtime.policy import LifecyclePolicy

SAMPLE_S = 1.0


class ShownFacts(msgspec.Struct):
    """The facts of an engine that the status of its model shows; engines may lack some."""

    chat_template: str = ""


class Lease:
    """The right to use a loaded model. While a lease is held, the model is not unloaded as idle."""

    def __init__(self, loaded: "LoadedModel", counters: Counters) -> None:
        # The model that is loaded; a smaller one may stand in for the one that was requested.
        self.entry: ModelEntry = loaded.entry
        # What the load option gave up so that the model fits into memory.
        self.reductions: tuple[str, ...] = loaded.option.reductions
        self.engine: EngineProcess = loaded.engine
        # What the engine returned from `load`: the worker's own struct, encoded.
        self.facts: msgspec.Raw = loaded.facts
        # Set when the model is to be unloaded: a lease that serves many calls ends soon after.
        self.ending: asyncio.Event = loaded.ending
        self._loaded = loaded
        self._counters = counters

    def count_calls(self, n_calls: int) -> None:
        """Add to the model's requests those that a standing lease served."""
        self._counters.requests += n_calls
        self._loaded.n_requests += n_calls

    def count_tokens(self, *, prompt: int = 0, cached: int = 0, completion: int = 0) -> None:
        """Add to the model's token counters, which status and metrics show."""
        self._counters.prompt_tokens += prompt
        self._counters.cached_tokens += cached
        self._counters.completion_tokens += completion

    def count_caches(self, reported: Mapping[str, CacheCounts]) -> None:
        """Add cache counts that the engine reported, by the place of the cache."""
        for place, counts in reported.items():
            self._counters.caches.setdefault(place, CacheCounts()).add(counts)


class LoadedModel:
    """An engine process with its model loaded, and the number of leases on it."""

    def __init__(
        self,
        option: LoadOption,
        engine: EngineProcess,
        facts: msgspec.Raw,
        clock: Clock,
        policy: LifecyclePolicy,
    ) -> None:
        self.option = option
        self.entry = option.entry
        self.engine = engine
        self.facts = facts
        self.shown_facts = msgspec.msgpack.decode(facts, type=ShownFacts)
        self.loaded_at_s = clock.time()
        # Set as soon as the model is to be unloaded: no new lease is granted from then on.
        self.ending = asyncio.Event()
        self.n_leases = 0
        self.n_requests = 0
        # Leases that ended while the process was running.
        self.n_served = 0
        self._clock = clock
        self._policy = policy
        self._keep_alive_s = policy.idle_timeout_s
        # When the last lease ended, or when the first of the leases held now began.
        self.turned_s = self.ready_s = clock.monotonic()
        # A request asked that the model stays until it is unloaded by hand; a later one may name
        # another keep-alive time.
        self._asked_to_stay = False
        # models.toml says that it stays, whatever requests ask for.
        self.stays = False
        # The model has dropped its caches since it was last used.
        self._has_shed = False
        # When the process was last measured, and what it held.
        self._measured = (float("-inf"), ProcessMemory())

    @property
    def accepting(self) -> bool:
        """Whether leases are granted."""
        return not self.ending.is_set()

    @property
    def is_pinned(self) -> bool:
        """Whether the model stays until it is unloaded by hand."""
        return self._asked_to_stay or self.stays

    @property
    def idle_deadline_s(self) -> float | None:
        """When the model is to be unloaded as idle; None while in use or pinned, or if it never
        is."""
        if self.n_leases or self.is_pinned or self._keep_alive_s is None:
            return None
        return self.turned_s + self._keep_alive_s

    @property
    def shed_deadline_s(self) -> float | None:
        """When the model is to drop its caches, pinned or not; None while in use or already
        done."""
        if self.n_leases or self._has_shed or self._policy.shed_after_s is None:
            return None
        return self.turned_s + self._policy.shed_after_s

    @property
    def alarm_s(self) -> float | None:
        """When the owner must act next; None if nothing is due while the leases stay the same."""
        deadlines = (self.idle_deadline_s, self.shed_deadline_s)
        return min((at_s for at_s in deadlines if at_s is not None), default=None)

    def shed(self) -> None:
        """Ask the engine to drop its caches if that is due."""
        deadline_s = self.shed_deadline_s
        if deadline_s is not None and deadline_s <= self._clock.monotonic():
            self._has_shed = True
            self.engine.shed()

    def limit_caches(self, max_bytes: int) -> None:
        """Let the engine keep up to `max_bytes` of past work beyond what the model always takes."""
        need = self.option.need
        if max_bytes > need.caches:
            # What the process may have held once is what its measured peak is compared with.
            self.option = replace(self.option, need=replace(need, caches=max_bytes))
        self.engine.limit_caches(max_bytes)

    def lease(self, counters: Counters) -> Lease:
        return Lease(self, counters)

    def begin_use(self) -> None:
        self.n_leases += 1
        self._has_shed = False
        if self.n_leases == 1:
            self.turned_s = self._clock.monotonic()

    def keep_alive(self, seconds: float | None) -> None:
        """What the latest request asked for: how long the model stays after its use; negative:
        until it is unloaded by hand; None: as the policy says."""
        if seconds is not None:
            self._asked_to_stay = seconds < 0
        self._keep_alive_s = self._policy.idle_timeout_s if seconds is None else seconds

    def end_use(self) -> float:
        """End one lease. Returns the seconds of use that ended with it; 0 if others are left."""
        self.n_leases -= 1
        self.n_served += self.engine.exit is None
        if self.n_leases:
            return 0.0
        began_s, self.turned_s = self.turned_s, self._clock.monotonic()
        return self.turned_s - began_s

    def memory(self, probe: MemoryProbe) -> ProcessMemory:
        """Memory of the process, measured at most once in `SAMPLE_S` seconds."""
        now_s = self._clock.monotonic()
        if now_s - self._measured[0] >= SAMPLE_S:
            self._measured = (now_s, probe.process(self.engine.pid))
        return self._measured[1]
