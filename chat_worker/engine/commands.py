"""What the loop is told, by any thread."""

from dataclasses import dataclass

from chat_worker.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class AddSequences:
    sequences: list[Sequence]


@dataclass(frozen=True, slots=True)
class EndSequences:
    """Stop these sequences without a report."""

    sequences: list[Sequence]


@dataclass(frozen=True, slots=True)
class ShedCache:
    """Give the cache's memory back, once nothing runs; the next `AddSequences` takes that back."""


@dataclass(frozen=True, slots=True)
class Close:
    """End after this step."""


Command = AddSequences | EndSequences | ShedCache | Close
