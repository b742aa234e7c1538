"""Which prompts a step computes, how much of them, and whether answers wait for them."""

from chat_worker.engine.runner import Limits, ScheduledTokens, alike
from chat_worker.engine.sequence import Sequence
from chat_worker.engine.slots import Slots

# A cancellation, a new request or the next token waits about this long at most for a prompt;
# so many times as long while nobody waits for a next token: larger chunks cost less.
TARGET_CHUNK_S = 0.4
ALONE = 2
# The first chunk ever is small: nothing is known of the model's speed.
FIRST_CHUNK_TOKENS = 32
MIN_CHUNK_TOKENS = 32
# One chunk of so many is the oldest prompt's, however long it is.
OLDEST_TURN = 4
# A prompt's rest that takes at most so much longer than that is computed whole: parts cost more.
WHOLE_PROMPT_GRACE = 0.8
# Whole prompts that cost less computed together may take so many chunks' time, and so may those
# that go before the next token of others.
TOGETHER = 5.5
# The latter may take so many while all others have but their first token: nobody is reading yet,
# and those that begin together would drift apart by a step each time that they are let go ahead.
BEGINNING = 20


class Prefill:
    """
    Args:
        limits: of the backend.
        slots: where the prompts' tokens go.
    """

    def __init__(self, limits: Limits, slots: Slots) -> None:
        self._limits = limits
        self._slots = slots
        self._chunk_tokens = float(min(FIRST_CHUNK_TOKENS, limits.n_batch))
        self._n_chunks = 0
        # Tokens of prompts computed since the answers had a step.
        self._n_ahead = 0

    def step(
        self, prefilling: list[Sequence], answers: list[ScheduledTokens]
    ) -> list[ScheduledTokens]:
        """What to compute of the prompts, and the answers' next tokens unless those wait."""
        prompts = self._chunks(prefilling, answers) if prefilling else []
        return prompts if self._go_first(prompts, answers) else answers + prompts

    def learn(self, n_tokens: int, seconds: float) -> None:
        """Steer the chunk towards the target; at most fourfold a step, as one may be an outlier.

        Few tokens say nothing of a chunk's speed.
        """
        if n_tokens < MIN_CHUNK_TOKENS:
            return
        wanted = n_tokens * TARGET_CHUNK_S / max(seconds, 1e-6)
        bounded = min(max(wanted, self._chunk_tokens / 4), self._chunk_tokens * 4)
        self._chunk_tokens = min(max(bounded, MIN_CHUNK_TOKENS), self._limits.n_batch)

    def _go_first(self, prompts: list[ScheduledTokens], answers: list[ScheduledTokens]) -> bool:
        """True if the answers wait for these prompts, which then decode along: a step costs little
        more for many answers than for few, and those that begin together end together."""
        self._n_ahead += sum(item.n_tokens for item in prompts)
        have_just_begun = all(answer.sequence.n_generated <= 1 for answer in answers)
        most = self._chunk_tokens * (BEGINNING if have_just_begun else TOGETHER)
        in_time = self._has_time and self._n_ahead <= most
        if prompts and answers and in_time and all(item.completes for item in prompts):
            return True
        self._n_ahead = 0
        return False

    @property
    def _has_time(self) -> bool:
        """False where a chunk cannot be made smaller: it takes longer than it should already."""
        return self._chunk_tokens > MIN_CHUNK_TOKENS

    def _chunks(
        self, prefilling: list[Sequence], answers: list[ScheduledTokens]
    ) -> list[ScheduledTokens]:
        """Whole prompts in order, then the shortest rest, as many tokens as the step has time for.

        One prompt after the other costs less than a little of each, and those that are done
        decode along with the others' chunks. Only a prompt that does not fit is computed in parts,
        by itself. The oldest has its turn, lest short prompts that keep coming starve a long one.
        """
        n_answered = sum(item.n_rows for item in answers)
        n_batch, n_rows = self._limits.n_batch - n_answered, self._limits.n_rows - n_answered
        wanted = self._chunk_tokens if answers else self._chunk_tokens * ALONE
        most = min(n_batch, int(wanted + self._chunk_tokens * WHOLE_PROMPT_GRACE))
        if self._slots.n_free_cells < most + len(answers):
            most = min(most, self._slots.n_available_cells() - len(answers))
        budget = min(most, int(wanted))
        self._n_chunks += 1
        oldest = prefilling[0] if self._n_chunks % OLDEST_TURN == 0 else None

        def turn(sequence: Sequence) -> tuple[bool, int]:
            return sequence is not oldest, sequence.n_pending if sequence.n_pending > most else 0

        items: list[ScheduledTokens] = []
        left = most
        for sequence in sorted(prefilling, key=turn):
            share = sequence.n_pending if sequence.n_pending <= left else min(budget, left)
            if sequence.n_unscored:
                share = min(share, n_rows)
            if share < 1 or n_rows < 1 or (items and share < sequence.n_pending):
                continue
            items.append(ScheduledTokens.of(sequence, share))
            left = budget = budget - share
            n_rows -= items[-1].n_rows
        return items + self._companions(items, prefilling, n_batch, n_rows)

    def _companions(
        self, items: list[ScheduledTokens], prefilling: list[Sequence], n_batch: int, n_rows: int
    ) -> list[ScheduledTokens]:
        """More whole prompts, of about the length of the one in `items`: together they cost less,
        and as they begin together they decode together to their end."""
        if not items or not self._has_time:
            return []
        first = items[0]
        if not first.completes or first.n_rows > 1:
            return []
        most = min(n_batch, self._limits.n_together, int(self._chunk_tokens * TOGETHER))
        n_more = min(most // first.n_tokens - len(items), n_rows)
        chosen = {item.sequence for item in items}
        candidates = [
            sequence
            for sequence in prefilling
            if sequence not in chosen
            and not sequence.n_unscored
            and alike(sequence.n_pending, first.n_tokens)
        ]
        # The nearest in length: all are padded to the longest.
        candidates.sort(key=lambda sequence: abs(sequence.n_pending - first.n_tokens))
        return [
            ScheduledTokens.of(sequence, sequence.n_pending)
            for sequence in candidates[: max(n_more, 0)]
        ]
