"""How long a step of a model may take before it is thought to be stuck; a clock by hand."""

from contextlib import suppress

from worker_runtime.engine_process.model_steps import (
    FIRST_LIMIT_S,
    LEAST_LIMIT_S,
    TIMES_THE_WORST,
    ModelSteps,
)
from worker_runtime.engine_process.watchdog import Watchdog


class Model:
    """Computes for as long as a test says."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.watchdog = Watchdog(lambda: self.now_s)
        self._steps = ModelSteps(self.watchdog, "model", lambda: self.now_s)

    def step(self, n_tokens: int, takes_s: float) -> str:
        """What the watchdog says at the end of it."""
        with self._steps.step(n_tokens):
            self.now_s += takes_s
            return self.watchdog.overdue()

    def fail(self, takes_s: float) -> None:
        with suppress(ValueError), self._steps.step(1):
            self.now_s += takes_s
            raise ValueError("it failed")


def test_the_first_step_has_an_hour() -> None:
    assert not Model().step(2, FIRST_LIMIT_S - 1)
    assert Model().step(2, FIRST_LIMIT_S + 5) == "model, overdue by 5 s"


def test_a_fast_model_that_computes_for_ten_minutes_is_stuck() -> None:
    for takes_s, said in ((LEAST_LIMIT_S - 1, ""), (LEAST_LIMIT_S + 1, "model, overdue by 1 s")):
        model = Model()
        model.step(2, 0.1)
        assert model.step(2, takes_s) == said


def test_a_slow_model_has_as_long_as_its_tokens_took_many_times_over() -> None:
    model = Model()
    model.step(1, 100)
    assert not model.step(16, TIMES_THE_WORST * 16 * 100 - 1)


def test_a_step_that_fails_ends_and_teaches_nothing() -> None:
    model = Model()
    model.step(1, 1)
    model.fail(500)
    model.now_s += FIRST_LIMIT_S
    assert not model.watchdog.overdue()
    assert model.step(1, LEAST_LIMIT_S + 2) == "model, overdue by 2 s"


def test_between_steps_nothing_is_overdue_however_long_nobody_asks() -> None:
    model = Model()
    model.step(2, 1)
    model.now_s += 10 * FIRST_LIMIT_S
    assert not model.watchdog.overdue()
