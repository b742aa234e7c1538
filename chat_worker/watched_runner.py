"""A runner whose computations are watched, so that one that never returns is detected."""

from collections.abc import Sequence as Rows

from chat_worker.engine.runner import CacheOp, Limits, ModelRunner, ScheduledTokens
from chat_worker.engine.sampling import LogitsRow
from worker_runtime.engine_process.model_steps import LEAST_LIMIT_S, ModelSteps
from worker_runtime.engine_process.watchdog import Watchdog

THREAD = "engine"


class WatchedRunner:
    """Implements `chat_worker.engine.runner.ModelRunner` with another runner."""

    def __init__(self, runner: ModelRunner, watchdog: Watchdog) -> None:
        self._runner = runner
        self._watchdog = watchdog
        self._steps = ModelSteps(watchdog, THREAD)

    @property
    def limits(self) -> Limits:
        return self._runner.limits

    def apply(self, op: CacheOp) -> None:
        with self._watchdog.step(THREAD, LEAST_LIMIT_S):
            self._runner.apply(op)

    def run(self, items: list[ScheduledTokens]) -> Rows[LogitsRow]:
        with self._steps.step(sum(item.size for item in items)):
            return self._runner.run(items)

    def length(self, slot: int) -> int:
        return self._runner.length(slot)

    def shed(self) -> None:
        self._runner.shed()

    def close(self) -> None:
        self._runner.close()
