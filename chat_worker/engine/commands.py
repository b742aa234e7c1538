"""What the loop is told, by any thread."""

from dataclasses import dataclass

from chat_worker.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Begin:
    sequences: list[Sequence]


@dataclass(frozen=True, slots=True)
class End:
    """Stop these sequences without a report."""

    sequences: list[Sequence]


@dataclass(frozen=True, slots=True)
class Shed:
    """Give the cache's memory back, once nothing runs; the next `Begin` takes that back."""


@dataclass(frozen=True, slots=True)
class Close:
    """End after this step."""


Command = Begin | End | Shed | Close
