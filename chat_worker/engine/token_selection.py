"""Chooses a sequence's next tokens from its rows of logits, and ends complete sequences."""

from collections.abc import Callable
from collections.abc import Sequence as Rows

from chat_worker.engine.output_collector import OutputCollector
from chat_worker.engine.outputs import SampledToken, SequenceEnded, SequenceFailed
from chat_worker.engine.runner import ScheduledTokens
from chat_worker.engine.sampling import ConstraintFailed, DegenerateLogits, LogitsRow, Scored, score
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.sequence import EndReason, Sequence


class TokenSelection:
    """Chooses tokens for all sequences of one loop."""

    def __init__(
        self, scheduler: Scheduler, outputs: OutputCollector, clock: Callable[[], float]
    ) -> None:
        self._scheduler = scheduler
        self._outputs = outputs
        self._clock = clock

    def choose(self, item: ScheduledTokens, rows: Rows[LogitsRow]) -> None:
        """Sample from row after row, as long as the guessed tokens are chosen.

        Args:
            rows: logits at the item's last token, and at the tokens guessed to follow.
        """
        n_right = 0
        broken: Exception | None = None
        for row, guessed in zip(rows, (*item.guess, None), strict=True):
            try:
                token = self._sample(item.sequence, row)
            except (DegenerateLogits, ConstraintFailed) as error:
                broken = error
                break
            if token is None or token != guessed:
                break
            n_right += 1
        if item.guess:
            self._scheduler.settle(item, n_right)
        if broken is not None:
            self.fail(item.sequence, by_constraint=isinstance(broken, ConstraintFailed))

    def fail(self, sequence: Sequence, *, by_constraint: bool = False) -> None:
        """End a sequence that cannot continue."""
        self._scheduler.forget(sequence)
        self._outputs.add(SequenceFailed(sequence, by_constraint))

    def _sample(self, sequence: Sequence, row: LogitsRow) -> int | None:
        """Choose a token and add it.

        Returns:
            None if the sequence has ended.
        Raises:
            DegenerateLogits: no logit is finite.
            ConstraintFailed: the constraint allows no token.
        """
        if len(sequence.tokens) >= sequence.limit:
            self._end(sequence, "length")
            return None
        raw = row.copy() if sequence.n_top is not None else row
        token = sequence.sampler.pick(row)
        if not sequence.n_generated:
            sequence.first_token_s = self._clock()
        scored = score(raw, token, sequence.n_top) if sequence.n_top is not None else None
        if token in sequence.end_tokens:
            self._end(sequence, "stop", scored if sequence.score_prompt else None)
            return None
        sequence.tokens.append(token)
        self._outputs.add(SampledToken(sequence, token, scored))
        if sequence.sampler.is_complete:
            self._end(sequence, "stop")
            return None
        if len(sequence.tokens) >= sequence.limit:
            self._end(sequence, "length")
            return None
        return token

    def _end(self, sequence: Sequence, reason: EndReason, scored: Scored | None = None) -> None:
        self._scheduler.remove(sequence)
        self._outputs.add(SequenceEnded(sequence, reason, scored))
