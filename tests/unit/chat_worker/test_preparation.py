"""The lanes on which requests are prepared: threads held by events, and a clock by hand."""

import threading
from collections.abc import Callable, Iterator

import pytest
from msgspec import Raw

from chat_worker.preparation import (
    GRACE_S,
    LIMIT_S,
    SHORT_BYTES,
    Preparation,
    PreparationLanes,
)
from common.errors import Cancelled, InvalidRequest, ServingError
from worker_runtime.engine_process.watchdog import Watchdog

BOUND_S = 20
SHORT, LONG = Raw(b"s"), Raw(b"l" * (SHORT_BYTES + 1))


class Lanes:
    """Lanes whose work is told by each test."""

    def __init__(self, prepare: Callable[[Preparation], None]) -> None:
        self.now_s = 0.0
        self.watchdog = Watchdog(lambda: self.now_s)
        self.failed: list[tuple[int, ServingError]] = []
        self.has_failed = threading.Event()
        self.lanes = PreparationLanes(prepare, self._fail, self.watchdog, lambda: self.now_s)
        self.lanes.start()

    def _fail(self, call_id: int, error: ServingError) -> None:
        self.failed.append((call_id, error))
        self.has_failed.set()


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Threads that a test holds end with it."""
    event = threading.Event()
    yield event
    event.set()


def test_a_short_request_does_not_wait_for_a_long_one(release: threading.Event) -> None:
    done = threading.Event()

    def prepare(preparation: Preparation) -> None:
        if preparation.body == LONG:
            release.wait(BOUND_S)
        else:
            done.set()

    lanes = Lanes(prepare).lanes
    lanes.submit(1, LONG)
    lanes.submit(2, LONG)
    lanes.submit(3, SHORT)
    assert done.wait(BOUND_S)


def test_what_is_cancelled_before_its_turn_is_never_begun(release: threading.Event) -> None:
    begun: list[int] = []
    has_begun, has_ended = threading.Event(), threading.Event()

    def prepare(preparation: Preparation) -> None:
        begun.append(preparation.call_id)
        has_begun.set()
        release.wait(BOUND_S)
        if preparation.call_id == 3:
            has_ended.set()

    lanes = Lanes(prepare).lanes
    for call_id in (1, 2, 3):
        lanes.submit(call_id, SHORT)
    assert has_begun.wait(BOUND_S)
    assert lanes.cancel(2)
    release.set()
    assert has_ended.wait(BOUND_S)
    assert begun == [1, 3]


def test_what_is_cancelled_in_its_midst_ends_at_the_next_check_and_says_nothing() -> None:
    midst, cancelled, ended = threading.Event(), threading.Event(), threading.Event()

    def prepare(preparation: Preparation) -> None:
        if preparation.call_id == 2:
            ended.set()
            return
        midst.set()
        assert cancelled.wait(BOUND_S)
        with pytest.raises(Cancelled):
            preparation.check()
        preparation.check()

    held = Lanes(prepare)
    held.lanes.submit(1, SHORT)
    assert midst.wait(BOUND_S)
    assert held.lanes.cancel(1)
    cancelled.set()
    held.lanes.submit(2, SHORT)
    assert ended.wait(BOUND_S)
    assert held.failed == []


def test_a_call_is_either_cancelled_here_or_handed_on_and_never_both() -> None:
    handed_on: list[int] = []
    prepared, finish = threading.Event(), threading.Event()
    results: list[bool] = []
    has_finished = threading.Event()

    def prepare(preparation: Preparation) -> None:
        prepared.set()
        assert finish.wait(BOUND_S)
        results.append(
            held.lanes.finish(preparation, lambda: handed_on.append(preparation.call_id))
        )
        has_finished.set()

    held = Lanes(prepare)
    held.lanes.submit(1, SHORT)
    assert prepared.wait(BOUND_S)
    assert held.lanes.cancel(1)
    finish.set()
    assert has_finished.wait(BOUND_S)
    assert (results, handed_on) == ([False], [])

    has_finished.clear()
    held.lanes.submit(2, SHORT)
    assert has_finished.wait(BOUND_S)
    assert (results, handed_on) == ([False, True], [2])
    assert not held.lanes.cancel(2)
    assert not held.lanes.cancel(99)


def test_what_takes_too_long_is_refused_with_its_limit_and_a_way_out() -> None:
    def prepare(preparation: Preparation) -> None:
        held.now_s += LIMIT_S - 1
        preparation.check()
        held.now_s += 2
        preparation.check()

    held = Lanes(prepare)
    held.lanes.submit(7, SHORT)
    assert held.has_failed.wait(BOUND_S)
    ((call_id, error),) = held.failed
    assert call_id == 7
    assert isinstance(error, InvalidRequest)
    assert f"in {LIMIT_S:.0f} s" in error.message
    assert error.suggestions == ("shorten the input",)


def test_megabytes_may_take_longer() -> None:
    preparation = Preparation(1, Raw(b"x" * (8 << 20)), lambda: 0.0)
    assert preparation.limit_s == LIMIT_S + 8


def test_an_error_of_one_request_leaves_the_lane_to_the_next(
    capfd: pytest.CaptureFixture[str],
) -> None:
    done = threading.Event()

    def prepare(preparation: Preparation) -> None:
        if preparation.call_id == 1:
            raise ValueError("a bug")
        done.set()

    held = Lanes(prepare)
    held.lanes.submit(1, SHORT)
    held.lanes.submit(2, SHORT)
    assert done.wait(BOUND_S)
    ((call_id, error),) = held.failed
    assert (call_id, error.code) == (1, "backend_failure")
    assert "a bug" not in error.message
    assert "a bug" in capfd.readouterr().err


def test_native_code_that_never_comes_back_is_told_to_whoever_asks(
    release: threading.Event,
) -> None:
    entered = threading.Event()

    def prepare(preparation: Preparation) -> None:
        entered.set()
        release.wait(BOUND_S)

    held = Lanes(prepare)
    held.lanes.submit(1, LONG)
    assert entered.wait(BOUND_S)
    held.now_s = LIMIT_S
    assert not held.watchdog.overdue()
    held.now_s = LIMIT_S + GRACE_S + 2
    assert held.watchdog.overdue().startswith("long requests, overdue by")
