"""When the deltas of open answers are sent, and the state of each answer until then."""

from dataclasses import dataclass, field

from chat_worker.engine.sequence import Sequence
from chat_worker.input_processor import PreparedInput
from chat_worker.pipe_messages import ChoiceEnd, TokenLogprob
from chat_worker.text.reply import Reply, ReplyFormat

# The first tokens are sent one by one, so that the client sees the answer begin. After that, the
# rate is at most 20 deltas a second; lower if many answers are generated together, but at least 4.
N_ALONE = 4
SHORTEST_FRAME_S, LONGEST_FRAME_S = 1 / 20, 1 / 4
# For all answers together: each takes a millisecond of the processor on its way to the client.
DELTAS_PER_S = 45


def frame_s(n_answers: int) -> float:
    """Seconds between two sends of all answers' deltas while `n_answers` are generated."""
    return min(max(n_answers / DELTAS_PER_S, SHORTEST_FRAME_S), LONGEST_FRAME_S)


class OpenChoice:
    """The state of one choice's reply."""

    def __init__(self, reply_format: ReplyFormat) -> None:
        self.reply = Reply(reply_format)
        self.shows_marks = bool(reply_format.schemas) or reply_format.thinking is not None
        self.n_tokens = 0
        self.end: ChoiceEnd | None = None
        # What the next delta carries besides the parts of the reply.
        self.n_unsent = 0
        self.logprobs: list[TokenLogprob] = []

    def is_due(self, *, is_frame: bool) -> bool:
        if not (self.reply.unsent or self.logprobs):
            return False
        return is_frame or self.n_tokens <= N_ALONE or self.end is not None


@dataclass(eq=False)
class OpenAnswer:
    id: int
    prepared: PreparedInput
    choices: list[OpenChoice]
    started: bool = False
    finished_sequences: list[Sequence] = field(default_factory=list)
