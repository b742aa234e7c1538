"""Which prompts a step computes, how many of their tokens, and whether answers wait for them."""

from chat_worker.engine.runner import Limits, ScheduledTokens, alike
from chat_worker.engine.sequence import Sequence
from chat_worker.engine.slots import Slots

# A cancellation, a new request or the next token waits about this long for a prompt at most. While
# no sequence is decoding, it may be a multiple of this, because larger chunks cost less.
TARGET_CHUNK_S = 0.4
ALONE = 2
# The first chunk is small, because the model's speed is not known yet.
FIRST_CHUNK_TOKENS = 32
MIN_CHUNK_TOKENS = 32
# One of this many chunks belongs to the oldest prompt, however long it is.
OLDEST_TURN = 4
# The rest of a prompt is computed at once if it takes at most this much longer: parts cost more.
WHOLE_PROMPT_GRACE = 0.8
# Complete prompts that cost less when computed together may take the time of this many chunks, and
# so may prompts that go before the next token of other sequences.
TOGETHER = 5.5
# The latter may take this many chunks while all other sequences have only their first token: no
# client reads yet, and sequences that begin together would otherwise drift apart by a step each.
BEGINNING = 20


class Prefill:
    """Chooses the prompts' part of each step.

    Args:
        limits: of the backend.
        slots: hold the prompts' tokens.
    """

    def __init__(self, limits: Limits, slots: Slots) -> None:
        self._limits = limits
        self._slots = slots
        self._chunk_tokens = float(min(FIRST_CHUNK_TOKENS, limits.n_batch))
        self._n_chunks = 0
        # Prompt tokens computed since the decoding sequences had a step.
        self._n_ahead = 0

    def step(
        self, prefilling: list[Sequence], answers: list[ScheduledTokens]
    ) -> list[ScheduledTokens]:
        """What to compute of the prompts, and the next tokens of the answers unless those wait."""
        prompts = self._chunks(prefilling, answers) if prefilling else []
        return prompts if self._go_first(prompts, answers) else answers + prompts

    def learn(self, n_tokens: int, seconds: float) -> None:
        """Adjust the chunk towards the target time, at most fourfold: a step may be an outlier.

        A few tokens do not show the speed of a chunk.
        """
        if n_tokens < MIN_CHUNK_TOKENS:
            return
        wanted = n_tokens * TARGET_CHUNK_S / max(seconds, 1e-6)
        bounded = min(max(wanted, self._chunk_tokens / 4), self._chunk_tokens * 4)
        self._chunk_tokens = min(max(bounded, MIN_CHUNK_TOKENS), self._limits.n_batch)

    def _go_first(self, prompts: list[ScheduledTokens], answers: list[ScheduledTokens]) -> bool:
        """True if the answers wait for these prompts, which then decode together with them: a step
        costs little more for many answers than for few, and sequences that begin together end
        together."""
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
        """False if a chunk cannot be made smaller although it takes longer than the target."""
        return self._chunk_tokens > MIN_CHUNK_TOKENS

    def _chunks(
        self, prefilling: list[Sequence], answers: list[ScheduledTokens]
    ) -> list[ScheduledTokens]:
        """Complete prompts in order, then the shortest rest, within the time of a step.

        Computing one prompt after the other costs less than a part of each, and prompts that are
        complete decode together with the others' chunks. Only a prompt that does not fit into one
        step is computed in parts, alone. The oldest prompt has its turn regularly, so that short
        prompts that keep arriving do not starve a long one.
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
        """More complete prompts of about the length of the one in `items`: together they cost less,
        and because they begin together they decode together to their end."""
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
        # Those closest in length first: all prompts are padded to the longest.
        candidates.sort(key=lambda sequence: abs(sequence.n_pending - first.n_tokens))
        return [
            ScheduledTokens.of(sequence, sequence.n_pending)
            for sequence in candidates[: max(n_more, 0)]
        ]
