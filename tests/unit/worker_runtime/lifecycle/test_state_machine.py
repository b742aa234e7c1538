"""Any order of leases, releases, leaving waiters, crashes, failures, unloads, time and of what the
machine's other programs and workers do keeps the lifecycle's promises."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant

from tests.unit.worker_runtime.fake_machine import HEADROOM_BYTES, TOTAL_BYTES
from tests.unit.worker_runtime.fake_workers import POLICY, SHARE_OF_SMALLER, SIZES, Client, Worker
from tests.unit.worker_runtime.lifecycle.lifecycle_rules import LifecycleRules
from worker_runtime.lifecycle.snapshot import ModelSnapshot, ModelState

# Waits for memory, for a load, for another's drain and stop, for a pause.
MOST_WAIT_S = 2 * (POLICY.queue_wait_s + POLICY.drain_s) + POLICY.load_timeout_s + 30
LOADING = {ModelState.RESERVED, ModelState.LOADING}
REFUSALS = {"over_limit", "machine_memory", "held_by_pins"}
AT_REST = {ModelState.UNLOADED, ModelState.FAILED, ModelState.READY}


class LifecycleMachine(LifecycleRules):
    """What always holds."""

    def __init__(self) -> None:
        super().__init__()
        # Whose errors were looked at: what they say is true of that moment.
        self.judged: set[Client] = set()

    def snapshots(self) -> list[tuple[Worker, ModelSnapshot]]:
        return [
            (worker, snapshot)
            for worker in self.workers
            for snapshot in worker.models.snapshot()
            if snapshot.entry.id not in worker.gone
        ]

    @invariant()
    def nothing_was_noticed_on_the_way(self) -> None:
        assert not self.machine.faults, self.machine.faults

    @invariant()
    def no_more_is_booked_than_allowed(self) -> None:
        for worker in self.workers:
            holdings, policy = worker.models.holdings(self.machine.machine()), worker.policy
            assert holdings.booked_bytes <= (policy.memory_limit_bytes or TOTAL_BYTES)
            assert worker.models.n_booked <= (policy.max_loaded or len(SIZES))

    @invariant()
    def the_ledger_says_what_is_booked(self) -> None:
        for number, worker in enumerate(self.workers):
            page = self.machine.pages.get(number)
            written = page.entries if page is not None else ()
            assert (
                sum(e.booked_bytes for e in written)
                == worker.models.holdings(self.machine.machine()).booked_bytes
            )
        booked = {entry.model: entry.booked_bytes for entry in self.machine.entries()}
        for _, snapshot in self.snapshots():
            assert booked.get(snapshot.entry.id, 0) == snapshot.booked_bytes

    @invariant()
    def each_process_belongs_to_one_booked_model(self) -> None:
        booked = Counter(entry.model for entry in self.machine.entries())
        alive = Counter(engine.entry.id for engine in self.machine.alive)
        assert alive <= booked
        gone = set().union(*(worker.gone for worker in self.workers))
        assert all(n == 1 or model in gone for model, n in alive.items())

    @invariant()
    def leases_are_on_ready_models_and_counted(self) -> None:
        for worker, snapshot in self.snapshots():
            held = [c.lease for c in worker.clients if c.model == snapshot.entry.id and c.lease]
            alive = [lease for lease in held if lease.engine.exit is None]
            assert snapshot.n_leases >= len(alive)
            assert not alive or snapshot.state not in LOADING

    @invariant()
    def no_waiter_is_lost(self) -> None:
        now_s = self.machine.clock.monotonic()
        for worker, snapshot in self.snapshots():
            waiting = [c for c in worker.clients if c.waits and c.model == snapshot.entry.id]
            assert snapshot.n_waiting >= len(waiting)
            assert not (waiting and snapshot.state in AT_REST), "waits for what does nothing"
            for client in waiting:
                assert now_s - client.since_s <= MOST_WAIT_S, f"waits in {snapshot.state}"

    @invariant()
    def who_waits_knows_what_for(self) -> None:
        for worker, snapshot in self.snapshots():
            reason = "load" if snapshot.state in LOADING else "queue"
            heard = [c.heard for c in worker.clients if c.waits and c.model == snapshot.entry.id]
            assert {waiting.reason for waiting in heard if waiting} <= {reason}
            places = [waiting.position for waiting in heard if waiting]
            assert None not in heard
            assert places == sorted(set(places)), "two have the same place"

    @invariant()
    def only_what_is_true_is_said(self) -> None:
        for worker, client in self.clients:
            if not client.task.done() or client.task.cancelled():
                continue
            assert client.task.exception() is None
            if client.error is not None and client not in self.judged:
                self.judged.add(client)
                assert "failed to manage" not in client.error.message
                if client.error.metadata.get("reason") in REFUSALS:
                    assert not self._could_fit(worker, client.model), client.error

    def _could_fit(self, worker: Worker, model: str) -> bool:
        """Whether there would be room if all that may go were gone."""
        pinned = [s for s in worker.models.snapshot() if s.pinned]
        kept = sum(max(s.booked_bytes, self.machine.process(s.pid).anonymous_bytes) for s in pinned)
        machine = TOTAL_BYTES - HEADROOM_BYTES - self.machine.others_bytes - kept
        budget = (worker.policy.memory_limit_bytes or TOTAL_BYTES) - kept
        in_count = not worker.policy.max_loaded or len(pinned) < worker.policy.max_loaded
        return in_count and SIZES[model] // SHARE_OF_SMALLER <= min(machine, budget)


TestLifecycle = LifecycleMachine.TestCase
TestLifecycle.settings = settings(
    # 2,000 take minutes of the suite; they are for changes to lifecycle and memory.
    max_examples=600,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestLifecycle.pytestmark = [pytest.mark.timeout(600)]  # type: ignore[attr-defined]
