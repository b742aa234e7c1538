"""What the loop puts out of its sequences, in the order in which it happened."""

from dataclasses import dataclass

from chat_worker.engine.sampling import Scored
from chat_worker.engine.sequence import EndReason, Sequence


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """The request is `position`th in the queue, 1 being next."""

    sequence: Sequence
    position: int


@dataclass(frozen=True, slots=True)
class SequenceAdmitted:
    sequence: Sequence


@dataclass(frozen=True, slots=True)
class PromptScored:
    """Log-probabilities of prompt tokens, in order; the first token of a prompt has none."""

    sequence: Sequence
    scores: list[Scored]


@dataclass(frozen=True, slots=True)
class SampledToken:
    sequence: Sequence
    token: int
    scored: Scored | None


@dataclass(frozen=True, slots=True)
class SequenceEnded:
    """`scored` is of the end token, where the prompt is scored too: who adds up log-probabilities
    counts on one for each token chosen."""

    sequence: Sequence
    reason: EndReason
    scored: Scored | None = None


@dataclass(frozen=True, slots=True)
class SequenceFailed:
    """`by_constraint`: its grammar could not go on; else the model could not."""

    sequence: Sequence
    by_constraint: bool = False


EngineOutput = (
    QueuePosition | SequenceAdmitted | PromptScored | SampledToken | SequenceEnded | SequenceFailed
)
