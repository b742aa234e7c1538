"""The queue in front of the model: order, sharing, cancellation, bounds."""

import random
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BackendFailure, Overloaded, ServingError
from embed_worker.engine.cache import VectorCache
from embed_worker.engine.call import EncodeCall, Row
from embed_worker.engine.loop import run_engine
from embed_worker.engine.pending_row import PendingRow
from embed_worker.engine.queue import MAX_OVERTAKES, Queue
from tests.unit.embed_worker.fake_runner import POISON, FakeRunner, row, vector

BATCH_TOKENS = 32
ROWS = st.lists(
    st.lists(st.integers(min_value=0, max_value=9), min_size=1, max_size=20).map(
        lambda ids: row(*ids)
    ),
    min_size=1,
    max_size=12,
)


class Caller:
    """Makes calls and keeps what became of them."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.done: dict[int, list[tuple[float, ...]]] = {}
        self.failed: dict[int, ServingError] = {}
        self.order: list[int] = []

    def call(self, call_id: int, rows: list[Row]) -> None:
        self.queue.add(
            EncodeCall(call_id, rows, 2, self._done, lambda e: self._failed(call_id, e)),
        )

    def _done(self, call: EncodeCall) -> None:
        assert call.id not in self.done
        self.order.append(call.id)
        self.done[call.id] = list(struct.iter_unpack("<2f", call.vectors))

    def _failed(self, call_id: int, error: ServingError) -> None:
        assert call_id not in self.failed
        self.failed[call_id] = error


def queue(*, max_tokens: int = 100_000, max_inputs: int = 10_000, cache_bytes: int = 0) -> Queue:
    return Queue(
        batch_tokens=BATCH_TOKENS,
        batch_rows=4,
        max_tokens=max_tokens,
        max_inputs=max_inputs,
        cache=VectorCache(cache_bytes, ttl_s=3_600),
    )


def drain(waiting: Queue, runner: FakeRunner | None = None) -> FakeRunner:
    """Run all that waits, on this thread."""
    used = runner or FakeRunner()
    waiting.close()
    run_engine(waiting, used)
    return used


def taken(waiting: Queue) -> list[PendingRow]:
    batch = waiting.take()
    assert batch is not None
    return batch


def finish(waiting: Queue, batch: list[PendingRow]) -> None:
    for entry in batch:
        waiting.finish(entry, memoryview(struct.pack("<2f", *vector(entry.row))))


@given(st.lists(ROWS, min_size=1, max_size=8))
def test_every_call_gets_its_own_vectors_in_its_own_order(calls: list[list[Row]]) -> None:
    waiting = queue()
    caller = Caller(waiting)
    for call_id, rows in enumerate(calls):
        caller.call(call_id, rows)
    runner = drain(waiting)
    assert caller.done == {i: [vector(row) for row in rows] for i, rows in enumerate(calls)}
    for batch in runner.batches:
        assert len(batch) <= 4
        assert len(batch) == 1 or len(batch) * max(len(r.ids) for r in batch) <= BATCH_TOKENS
    waiting.check_idle()


@given(st.lists(ROWS, min_size=1, max_size=8), st.data())
def test_a_cancelled_call_is_neither_run_nor_answered(
    calls: list[list[Row]], data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from(range(len(calls)))))
    waiting = queue()
    caller = Caller(waiting)
    for call_id, rows in enumerate(calls):
        caller.call(call_id, rows)
    for call_id in gone:
        waiting.cancel(call_id)
    runner = drain(waiting)
    wanted = {row.key for i, rows in enumerate(calls) if i not in gone for row in rows}
    assert {row.key for batch in runner.batches for row in batch} == wanted
    assert set(caller.done) == set(range(len(calls))) - gone
    waiting.check_idle()


def test_equal_texts_of_one_call_are_computed_once() -> None:
    waiting = queue()
    caller = Caller(waiting)
    caller.call(1, [row(1, 2), row(3), row(1, 2)])
    runner = drain(waiting)
    assert sum(len(batch) for batch in runner.batches) == 2
    assert caller.done[1] == [(3.0, 2.0), (3.0, 1.0), (3.0, 2.0)]


def test_a_text_that_is_running_is_shared_with_a_later_call() -> None:
    waiting = queue()
    caller = Caller(waiting)
    caller.call(1, [row(1, 2)])
    batch = taken(waiting)
    caller.call(2, [row(1, 2)])
    finish(waiting, batch)
    assert caller.done == {1: [(3.0, 2.0)], 2: [(3.0, 2.0)]}
    waiting.check_idle()


def test_cancelling_one_of_two_that_share_a_text_leaves_the_other() -> None:
    waiting = queue()
    caller = Caller(waiting)
    caller.call(1, [row(1, 2), row(5)])
    caller.call(2, [row(1, 2)])
    waiting.cancel(1)
    runner = drain(waiting)
    assert caller.done == {2: [(3.0, 2.0)]}
    assert [[list(r.ids) for r in batch] for batch in runner.batches] == [[[1, 2]]]


def test_a_short_request_does_not_share_a_text_that_waits_in_a_bulk_one() -> None:
    waiting = queue()
    caller = Caller(waiting)
    caller.call(1, [row(*[i] * 16) for i in range(8)])
    caller.call(2, [row(*[7] * 16)])
    assert [list(entry.row.ids) for entry in taken(waiting)] == [[7] * 16]


def test_a_short_request_overtakes_a_bulk_one_between_its_micro_batches() -> None:
    waiting = queue()
    caller = Caller(waiting)
    caller.call(1, [row(*[i] * 16) for i in range(8)])
    finish(waiting, taken(waiting))
    caller.call(2, [row(1)])
    finish(waiting, taken(waiting))
    assert caller.order == [2]
    drain(waiting)
    assert caller.order == [2, 1]


def test_short_requests_without_end_do_not_starve_a_bulk_one() -> None:
    waiting = queue()
    caller = Caller(waiting)
    n_bulk_batches = 4
    caller.call(0, [row(*[i] * 16) for i in range(2 * n_bulk_batches)])
    for call_id in range(1, (MAX_OVERTAKES + 1) * n_bulk_batches + 1):
        caller.call(call_id, [row(call_id)])
        finish(waiting, taken(waiting))
    assert 0 in caller.done


def test_two_bulk_requests_take_turns() -> None:
    waiting = queue()
    caller = Caller(waiting)
    caller.call(1, [row(*[i] * 16) for i in range(20)])
    caller.call(2, [row(*[50 + i] * 16) for i in range(4)])
    drain(waiting)
    assert caller.order == [2, 1]


def test_only_the_text_that_fails_alone_fails_its_call() -> None:
    waiting = queue()
    caller = Caller(waiting)
    caller.call(1, [row(1)])
    caller.call(2, [row(2), row(POISON)])
    caller.call(3, [row(3)])
    drain(waiting)
    assert set(caller.done) == {1, 3}
    assert isinstance(caller.failed[2], BackendFailure)
    assert caller.failed[2].param == "input[1]"
    waiting.check_idle()


def test_a_call_whose_texts_are_all_cached_is_done_at_once() -> None:
    waiting = queue(cache_bytes=10_000)
    caller = Caller(waiting)
    caller.call(1, [row(1, 2), row(3)])
    while len(caller.done) < 1:
        finish(waiting, taken(waiting))
    caller.call(2, [row(3), row(1, 2), row(3)])
    assert caller.done[2] == [(3.0, 1.0), (3.0, 2.0), (3.0, 1.0)]
    waiting.check_idle()


def test_a_call_with_some_cached_texts_computes_only_the_others() -> None:
    waiting = queue(cache_bytes=10_000)
    caller = Caller(waiting)
    caller.call(1, [row(1, 2)])
    finish(waiting, taken(waiting))
    caller.call(2, [row(4), row(1, 2)])
    runner = drain(waiting)
    assert [[list(r.ids) for r in batch] for batch in runner.batches] == [[[4]]]
    assert caller.done[2] == [(4.0, 1.0), (3.0, 2.0)]


def test_what_is_shed_is_computed_anew_and_only_once_nothing_waits() -> None:
    waiting = queue(cache_bytes=10_000)
    caller = Caller(waiting)
    caller.call(1, [row(1, 2)])
    finish(waiting, taken(waiting))
    caller.call(2, [row(3)])
    waiting.shed()
    caller.call(3, [row(1, 2)])
    runner = drain(waiting)
    assert (runner.n_sheds, sum(map(len, runner.batches))) == (1, 2)
    assert caller.done[3] == caller.done[1]
    waiting.check_idle()


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    waiting = queue(max_inputs=2)
    Caller(waiting).call(1, [row(1), row(2)])
    with pytest.raises(Overloaded) as refused:
        waiting.check_room(1)
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1


def test_a_full_queue_refuses_by_tokens_too() -> None:
    waiting = queue(max_tokens=3)
    Caller(waiting).call(1, [row(1, 2)])
    waiting.check_room(1, 1)
    with pytest.raises(Overloaded):
        waiting.check_room(1, 2)


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    queue(max_inputs=2, max_tokens=3).check_room(2_048, 1_000_000)


@settings(max_examples=20, deadline=None)
@given(st.integers(min_value=0))
def test_calls_that_come_and_go_while_the_model_runs_each_have_one_outcome(seed: int) -> None:
    chance = random.Random(seed)
    waiting = queue()
    caller = Caller(waiting)
    model = threading.Thread(target=run_engine, args=(waiting, FakeRunner()))
    model.start()
    calls = {
        i: [row(*(chance.randrange(5) for _ in range(chance.randrange(1, 20))))] * (i % 3 + 1)
        for i in range(60)
    }
    cancelled = set()
    for call_id, rows in calls.items():
        caller.call(call_id, rows)
        if chance.random() < 0.3:
            cancelled.add(victim := chance.randrange(call_id + 1))
            waiting.cancel(victim)
    waiting.close()
    model.join(timeout=30)
    assert not model.is_alive()
    assert set(calls) - cancelled <= set(caller.done)
    assert all(caller.done[i] == [vector(row) for row in calls[i]] for i in caller.done)
    waiting.check_idle()
