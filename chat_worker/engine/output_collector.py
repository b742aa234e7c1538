"""Collects the outputs of a step, in the order of the events, until they are emitted."""

from collections.abc import Callable

from chat_worker.engine.outputs import EngineOutput, QueuePosition, SequenceAdmitted
from chat_worker.engine.scheduler import Admission
from chat_worker.engine.sequence import Sequence


class OutputCollector:
    """The outputs that are not emitted yet.

    Args:
        emit: receives the outputs of a step; must not block.
    """

    def __init__(
        self, emit: Callable[[list[EngineOutput]], None], clock: Callable[[], float]
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._reports: list[EngineOutput] = []
        # The last reported queue position of sequences that have not run yet.
        self._positions: dict[Sequence, int] = {}

    def add(self, report: EngineOutput) -> None:
        self._reports.append(report)

    def admitted(self, admissions: list[Admission]) -> None:
        """Report sequences that run for the first time, not those that run after a preemption."""
        for admission in admissions:
            sequence = admission.sequence
            self._positions.pop(sequence, None)
            if sequence.n_cached is None:
                sequence.n_cached = admission.n_cached
                sequence.admitted_s = self._clock()
                self.add(SequenceAdmitted(sequence))

    def waiting(self, waiting: list[Sequence]) -> None:
        """Report the queue position of sequences that have not run yet, if it has changed."""
        never_ran = [s for s in waiting if s.n_cached is None]
        for position, sequence in enumerate(never_ran, start=1):
            if self._positions.get(sequence) != position:
                self._positions[sequence] = position
                self.add(QueuePosition(sequence, position))
        if not never_ran:
            self._positions.clear()

    def emit(self) -> None:
        """Emit the collected outputs, if there are any."""
        if self._reports:
            reports, self._reports = self._reports, []
            self._emit(reports)
