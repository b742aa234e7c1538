"""The outputs of the loop for its sequences, in the order of the events."""

from dataclasses import dataclass

from chat_worker.engine.sampling import Scored
from chat_worker.engine.sequence import EndReason, Sequence


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """The request's place in the queue; 1 is next."""

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
    """The sequence is complete. If the prompt is scored too, `scored` belongs to the end token:
    clients that add up log-probabilities expect one for each token chosen."""

    sequence: Sequence
    reason: EndReason
    scored: Scored | None = None


@dataclass(frozen=True, slots=True)
class SequenceFailed:
    """The sequence failed: by its constraint if `by_constraint` is set, else in the model."""

    sequence: Sequence
    by_constraint: bool = False


EngineOutput = (
    QueuePosition | SequenceAdmitted | PromptScored | SampledToken | SequenceEnded | SequenceFailed
)
