"""How long a step of the model may take before it is thought to be stuck."""

from chat_worker.engine.runner import Item
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.watched_runner import (
    FIRST_LIMIT_S,
    LEAST_LIMIT_S,
    TIMES_THE_WORST,
    WatchedRunner,
)
from tests.unit.chat_worker.fake_runner import FakeRunner
from worker_runtime.watchdog import Watchdog


class Slow:
    """A runner whose steps take as long as a test says, on a clock by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.takes_s = 0.0
        self.seen: list[str] = []
        self.watchdog = Watchdog(lambda: self.now_s)
        fake = FakeRunner(before_run=self._pass_time)
        self.runner = WatchedRunner(fake, self.watchdog, lambda: self.now_s)
        self._sequence = Sequence(
            call_id=1,
            choice=0,
            tokens=list(range(2, 60)),
            limit=200,
            sampler=Sampler(SamplingParams(), []),
        )
        self._sequence.slot = 0

    def step(self, n_tokens: int, takes_s: float) -> str:
        """What the watchdog says at the end of a step."""
        self.takes_s = takes_s
        self.runner.run([Item.of(self._sequence, n_tokens)])
        self._sequence.n_computed += n_tokens
        return self.seen[-1]

    def _pass_time(self, items: list[Item]) -> None:
        self.now_s += self.takes_s
        self.seen.append(self.watchdog.overdue())


def test_the_first_step_has_an_hour() -> None:
    slow = Slow()
    assert not slow.step(2, FIRST_LIMIT_S - 1)
    assert Slow().step(2, FIRST_LIMIT_S + 5) == "engine, overdue by 5 s"


def test_a_fast_model_that_computes_for_ten_minutes_is_stuck() -> None:
    slow = Slow()
    slow.step(2, 0.1)
    assert not slow.step(2, LEAST_LIMIT_S - 1)
    slow = Slow()
    slow.step(2, 0.1)
    assert slow.step(2, LEAST_LIMIT_S + 1) == "engine, overdue by 1 s"


def test_a_slow_model_has_as_long_as_its_tokens_took_many_times_over() -> None:
    slow = Slow()
    slow.step(1, 100)
    assert not slow.step(16, TIMES_THE_WORST * 16 * 100 - 1)


def test_between_steps_nothing_is_overdue_however_long_nobody_asks() -> None:
    slow = Slow()
    slow.step(2, 1)
    slow.now_s += 10 * FIRST_LIMIT_S
    assert not slow.watchdog.overdue()
