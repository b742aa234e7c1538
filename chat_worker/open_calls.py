"""What the scribe knows of a call while its answer is written."""

from dataclasses import dataclass, field

from chat_worker.engine.sequence import Sequence
from chat_worker.messages import ChoiceEnd, TokenLogprob
from chat_worker.prepare import Prepared
from chat_worker.text.reply import Reply, ReplyForm

# The first tokens travel alone, so that an answer is seen to begin; then 20 deltas a second do.
N_ALONE = 8
FRAME_S = 1 / 20


class Choice:
    """What is known of one choice's reply."""

    def __init__(self, form: ReplyForm) -> None:
        self.reply = Reply(form)
        self.shows_marks = bool(form.schemas) or form.thinks
        self.n_tokens = 0
        self.end: ChoiceEnd | None = None
        # What the next delta will carry beside what the reply has read.
        self.n_unsent = 0
        self.logprobs: list[TokenLogprob] = []
        self.sent_s = 0.0

    def is_due(self, now: float) -> bool:
        if not (self.reply.unsent or self.logprobs):
            return False
        return self.n_tokens <= N_ALONE or self.end is not None or now - self.sent_s >= FRAME_S


@dataclass(eq=False)
class Call:
    id: int
    prepared: Prepared
    choices: list[Choice]
    started: bool = False
    finished_sequences: list[Sequence] = field(default_factory=list)
