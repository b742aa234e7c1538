"""Runs a plan on the model. A batch that fails is run again one sequence at a time, so that only
the sequences at fault fail."""

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Rows
from dataclasses import dataclass

from chat_worker.engine.runner import ModelRunner, Plan, RunFailed, ScheduledTokens
from chat_worker.engine.sampling import LogitsRow
from chat_worker.engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one batch.

    Args:
        rows: (n_vocab,) float32 each, in the order of the items; valid until the next batch. None
            if the batch's only item cannot be computed.
    """

    items: list[ScheduledTokens]
    rows: Rows[LogitsRow] | None
    seconds: float = 0.0


class Execution:
    """Runs plans for one loop."""

    def __init__(
        self, runner: ModelRunner, scheduler: Scheduler, clock: Callable[[], float]
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._clock = clock

    def run(self, plan: Plan) -> Iterator[Result]:
        """The results of a plan, usually one; commit each before requesting the next one."""
        for op in plan.ops:
            self._runner.apply(op)
        if not plan.items:
            return
        results: Iterable[Result]
        try:
            results = [self._batch(plan.items)]
        except RunFailed:
            self._undo(plan.items)
            results = map(self._alone, plan.items)
        yield from results

    def _alone(self, item: ScheduledTokens) -> Result:
        try:
            return self._batch([item.without_guess()])
        except RunFailed:
            self._undo([item])
            return Result([item], None)

    def _batch(self, items: list[ScheduledTokens]) -> Result:
        began_s = self._clock()
        rows = self._runner.run(items)
        return Result(items, rows, self._clock() - began_s)

    def _undo(self, items: list[ScheduledTokens]) -> None:
        for op in self._scheduler.restore(items):
            self._runner.apply(op)
