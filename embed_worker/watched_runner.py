"""A runner whose computations are watched, so that one that never returns is detected."""

from collections.abc import Sequence

from embed_worker.engine.call import Row
from embed_worker.engine.runner import EncoderRunner
from worker_runtime.engine_process.model_steps import ModelSteps
from worker_runtime.engine_process.watchdog import Watchdog


class WatchedRunner:
    """Implements `embed_worker.engine.runner.EncoderRunner` with another runner."""

    def __init__(self, runner: EncoderRunner, watchdog: Watchdog) -> None:
        self.dimension = runner.dimension
        self._runner = runner
        self._steps = ModelSteps(watchdog, "model")

    def encode(self, rows: Sequence[Row]) -> memoryview:
        with self._steps.step(sum(len(row.ids) for row in rows)):
            return self._runner.encode(rows)

    def shed(self) -> None:
        self._runner.shed()
