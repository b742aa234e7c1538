"""The commands to the loop, which any thread may send."""

from dataclasses import dataclass

from chat_worker.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class AddSequences:
    sequences: list[Sequence]


@dataclass(frozen=True, slots=True)
class EndSequences:
    """Stop these sequences without any output."""

    sequences: list[Sequence]


@dataclass(frozen=True, slots=True)
class ShedCache:
    """Free the cache's memory as soon as nothing runs; the next `AddSequences` cancels this."""


@dataclass(frozen=True, slots=True)
class LimitCache:
    """Hold no more than `max_bytes` of past sequences in memory, besides the slots."""

    max_bytes: int


@dataclass(frozen=True, slots=True)
class Close:
    """End after the current step."""


Command = AddSequences | EndSequences | ShedCache | LimitCache | Close
