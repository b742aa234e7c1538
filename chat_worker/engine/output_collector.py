"""Collects the reports of a step, in the order in which it happened, until they are emitted."""

from collections.abc import Callable

from chat_worker.engine.outputs import EngineOutput, QueuePosition, SequenceAdmitted
from chat_worker.engine.scheduler import Admission
from chat_worker.engine.sequence import Sequence


class OutputCollector:
    """
    Args:
        emit: takes the reports of a step; must not block.
    """

    def __init__(
        self, emit: Callable[[list[EngineOutput]], None], clock: Callable[[], float]
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._reports: list[EngineOutput] = []
        # Of sequences that never ran yet: what they were told last.
        self._positions: dict[Sequence, int] = {}

    def add(self, report: EngineOutput) -> None:
        self._reports.append(report)

    def admitted(self, admissions: list[Admission]) -> None:
        """Report sequences that run for the first time; those that were preempted have begun."""
        for admission in admissions:
            sequence = admission.sequence
            self._positions.pop(sequence, None)
            if sequence.n_cached is None:
                sequence.n_cached = admission.n_cached
                sequence.admitted_s = self._clock()
                self.add(SequenceAdmitted(sequence))

    def waiting(self, waiting: list[Sequence]) -> None:
        """Tell those who never ran yet where they are in the queue, when that changed."""
        never_ran = [s for s in waiting if s.n_cached is None]
        for position, sequence in enumerate(never_ran, start=1):
            if self._positions.get(sequence) != position:
                self._positions[sequence] = position
                self.add(QueuePosition(sequence, position))
        if not never_ran:
            self._positions.clear()

    def emit(self) -> None:
        """Hand on what was collected, if anything was."""
        if self._reports:
            reports, self._reports = self._reports, []
            self._emit(reports)
