"""Which workers get no calls for a while, and that one always does."""

import pytest

from common.error_texts import ErrorText
from common.errors import BackendFailure, DeadlineExceeded, Overloaded, ServingError, WorkerLost
from gateway.pool.conduct import FIRST_OUT_S, LONGEST_OUT_S, Conduct
from gateway.pool.endpoint import Endpoint
from gateway.pool.outliers import FAILURES_IN_A_ROW, Outliers
from gateway.pool.running import Running, Totals
from protos.y26hkx.v1 import chat_pb2, common_pb2, worker_pb2

LOST = WorkerLost("gone")


class Fleet:
    def __init__(self, n: int, slow_factor: float = 4.0) -> None:
        self.now_s = 1000.0
        self.workers = [Endpoint(f"w{number}:1") for number in range(n)]
        for worker in self.workers:
            worker.serving = True
            worker.conduct = Conduct(lambda: self.now_s)
        self.outliers = Outliers(lambda: self.workers, slow_factor)

    def called(self, worker: int, n: int = 1, error: ServingError | None = None) -> None:
        for _ in range(n):
            if error is None:
                self.outliers.note_answer(self.workers[worker])
            else:
                self.outliers.note_error(self.workers[worker], error)

    def paced(self, worker: int, seconds: float, model: str = "m") -> None:
        for _ in range(20):
            self.outliers.note_pace(self.workers[worker], model, seconds)

    @property
    def out(self) -> list[int]:
        """Those that get no calls now."""
        sound = self.outliers.sound(list(self.workers))
        return [number for number, worker in enumerate(self.workers) if worker not in sound]


def test_a_worker_that_loses_call_after_call_gets_none_and_then_one_at_a_time() -> None:
    fleet = Fleet(3)
    fleet.called(0, FAILURES_IN_A_ROW - 1, LOST)
    assert fleet.out == []
    fleet.called(0, 1, LOST)
    assert fleet.out == [0]
    fleet.now_s += FIRST_OUT_S
    assert fleet.out == []
    fleet.workers[0].n_outstanding = 1
    assert fleet.out == [0], "one call at a time"
    fleet.called(0)
    assert fleet.out == []


def test_a_call_that_fails_in_between_opens_it_again_for_twice_as_long() -> None:
    fleet = Fleet(2)
    fleet.called(0, FAILURES_IN_A_ROW, LOST)
    fleet.now_s += FIRST_OUT_S
    fleet.called(0, 1, LOST)
    fleet.now_s += 2 * FIRST_OUT_S - 1
    assert fleet.out == [0]
    for _ in range(20):
        fleet.now_s += LONGEST_OUT_S
        assert fleet.out == [], "never for longer than a minute"
        fleet.called(0, 1, LOST)


def test_a_new_process_begins_anew() -> None:
    fleet = Fleet(2)
    fleet.called(0, FAILURES_IN_A_ROW, LOST)
    fleet.workers[0].conduct.begin_anew()
    assert fleet.out == []


@pytest.mark.parametrize("n", [1, 2, 5])
def test_one_worker_always_gets_calls(n: int) -> None:
    fleet = Fleet(n)
    for worker in range(n):
        fleet.called(worker, 20, LOST)
    assert len(fleet.out) == n - 1
    # And where the one that is left has gone, the others do.
    assert fleet.outliers.sound([fleet.workers[0]]) == [fleet.workers[0]]


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("full"),
        DeadlineExceeded(ErrorText("no_first_token", limit_s=1)),
        DeadlineExceeded(ErrorText("request_too_slow")),
    ],
)
def test_what_a_client_or_a_crowd_causes_is_no_fault(error: ServingError) -> None:
    fleet = Fleet(2)
    fleet.called(0, 100, error)
    fleet.called(1, 100)
    fleet.outliers.compare()
    assert fleet.out == []


def test_silence_in_mid_answer_is_one() -> None:
    fleet = Fleet(2)
    fleet.called(0, FAILURES_IN_A_ROW, DeadlineExceeded(ErrorText("worker_silent")))
    assert fleet.out == [0]


def test_a_worker_that_fails_more_than_the_others_is_left_out_and_not_if_all_do() -> None:
    broken = BackendFailure("broken")
    alike, one = Fleet(4), Fleet(4)
    for worker in range(4):
        alike.called(worker, 20, broken)
        one.called(worker, 20, broken if worker == 2 else None)
    for fleet in (alike, one):
        fleet.outliers.compare()
    assert (alike.out, one.out) == ([], [2])


def test_a_worker_that_takes_much_longer_for_the_same_model_is_left_out() -> None:
    fleet = Fleet(4)
    for worker, seconds in enumerate((0.1, 0.12, 0.6, 0.3)):
        fleet.paced(worker, seconds)
        # Another model may be as slow as it likes, and nobody notices a thousandth of a second.
        fleet.paced(worker, 9.0 if worker == 0 else 9.1, "large")
        fleet.paced(worker, 0.001 if worker else 0.009, "tiny")
    fleet.outliers.compare()
    assert fleet.out == [2]
    off = Fleet(2, slow_factor=0)
    off.paced(0, 9.0)
    off.paced(1, 0.1)
    off.outliers.compare()
    assert off.out == []


def test_never_more_than_a_third_is_left_out_by_comparison() -> None:
    fleet = Fleet(9)
    for worker in range(9):
        fleet.paced(worker, 0.1 if worker < 5 else 2.0)
    fleet.outliers.compare()
    assert len(fleet.out) == 3


def test_a_call_that_waits_for_a_load_is_none_to_compare() -> None:
    worker = Endpoint("w:1")
    states = {"own": worker_pb2.MODEL_STATE_READY, "other": worker_pb2.MODEL_STATE_LOADING}
    models = [
        worker_pb2.Model(id=name, state=state, is_default=name == "own")
        for name, state in states.items()
    ]
    worker.hear(worker_pb2.WorkerStatus(models=models))
    assert [worker.has_ready(name) for name in ("OWN", "", "other", "x")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_tokens_time_is_the_workers_own_whatever_the_client_reads() -> None:
    running = Running("req", "", "m", Totals())
    running.count(chat_pb2.GenerateEvent(queued=chat_pb2.Queued()))
    for n_tokens, pace_s in ((7, 0.0), (20, 0.1)):
        finished = chat_pb2.Finished(
            usage=common_pb2.Usage(completion_tokens=n_tokens),
            timings=chat_pb2.Timings(decode_s=2.0),
        )
        running.count(chat_pb2.GenerateEvent(finished=finished))
        assert running.pace_s == pace_s


def test_few_calls_tell_nothing_and_old_ones_fade() -> None:
    fleet = Fleet(2)
    fleet.paced(1, 0.1)
    for _ in range(5):
        fleet.outliers.note_pace(fleet.workers[0], "m", 9.0)
    fleet.outliers.compare()
    assert fleet.out == []
    for _ in range(100):
        fleet.outliers.compare()
    assert fleet.workers[1].conduct.pace["m"].n < 1
