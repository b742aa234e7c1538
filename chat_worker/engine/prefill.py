"""Which prompts a step computes, how many of their tokens, and whether answers wait for them."""

from chat_worker.engine.runner import Limits, ScheduledTokens, alike
from chat_worker.engine.sequence import Sequence
from chat_worker.engine.slots import Slots
from chat_worker.engine.step_costs import StepCosts
from chat_worker.engine.turns import FLOW_S, Turns

# A cancellation or a new request waits about this long for a piece of a prompt.
PIECE_S = 0.8
# One complete prompt, a piece of one alone, and several that cost less together, take up to so many
# times longer.
WHOLE = 2
# Where no answer waits, a piece has this many tokens, unless they take longer than that: with
# fewer, llama.cpp needs a tenth more for 4,000 tokens on a slow processor.
ALONE_TOKENS, ALONE_S = 256, 4.0
# Kernels and attention compute whole tiles, the last one as if it were full. In llama.cpp's
# attention they have 64 rows: at a depth of 4,000, tokens in pieces of 160 cost a seventh more than
# those in pieces of 256. Pieces are multiples of a tile, small ones of half of it.
TILE = 64
# However slow a machine is: it reads all weights for each piece.
LEAST_TOKENS = 16
# One of this many pieces belongs to the oldest prompt, however long it is.
OLDEST_TURN = 4


class Prefill:
    """Chooses the prompts' part of each step.

    Args:
        limits: of the backend.
        slots: hold the prompts' tokens.
        costs: of steps.
        answer_wait_s: the longest wait of answers for prompts, all prompts together.
    """

    def __init__(
        self, limits: Limits, slots: Slots, costs: StepCosts, answer_wait_s: float
    ) -> None:
        self._limits = limits
        self._slots = slots
        self._costs = costs
        self._turns = Turns(answer_wait_s)
        self._n_pieces = 0
        self._answers_wait = False
        self._waste_s = 0.0

    def step(
        self, prefilling: list[Sequence], answering: list[Sequence]
    ) -> tuple[list[ScheduledTokens], bool]:
        """What to compute of the prompts, and whether the answers get their next tokens."""
        self._answers_wait, self._waste_s = False, 0.0
        if not prefilling:
            return [], True
        order = self._order(prefilling)
        first, n_answers = order[0], len(answering)
        least_s = self._least_s(first)
        piece_s = max(PIECE_S, least_s)
        if not answering:
            least = min(ALONE_TOKENS, self._costs.tokens_in(ALONE_S, first.n_computed))
            return self._pieces(order, 0, piece_s * WHOLE, piece_s * WHOLE, least), True
        have_begun = any(sequence.n_generated > 1 for sequence in answering)
        if have_begun and self._costs.mixing_pays:
            flow_s = max(FLOW_S - self._costs.answers_s(n_answers), least_s)
            return self._pieces(order, n_answers, flow_s, flow_s), True
        rest_s = self._costs.seconds(first.n_pending, first.n_computed)
        n_cached = first.n_cached or 0
        prompt_s = self._costs.seconds(len(first.tokens) - n_cached, n_cached)
        n_behind = len(prefilling) - 1
        self._waste_s = n_behind * self._costs.waste_s(n_answers, n_answers + len(prefilling))
        left_s = self._turns.left_s(rest_s, prompt_s, least_s, self._waste_s, have_begun=have_begun)
        if not left_s:
            return [], True
        whole_s = min(left_s, piece_s * WHOLE)
        prompts = self._pieces(order, n_answers, min(left_s, piece_s), whole_s)
        self._answers_wait = bool(prompts)
        return prompts, not prompts

    def learn(self, items: list[ScheduledTokens], seconds: float) -> None:
        """Record how long the last step took."""
        if any(item.n_tokens == 1 for item in items):
            self._turns.answers_took(seconds, self._waste_s)
        elif self._answers_wait:
            self._turns.prompts_took(seconds)

    def _least_s(self, prompt: Sequence) -> float:
        """Seconds of the smallest piece of it that is worth a step."""
        n_tokens = min(self._costs.efficient_tokens(prompt.n_computed), prompt.n_pending)
        return self._costs.seconds(n_tokens, prompt.n_computed)

    def _order(self, prefilling: list[Sequence]) -> list[Sequence]:
        """Those that one piece completes, as they came, then the shortest rest; the oldest prompt
        has its turn regularly, so that short prompts that keep arriving do not starve a long one.
        """
        oldest = prefilling[0] if self._n_pieces % OLDEST_TURN == OLDEST_TURN - 1 else None
        whole = self._costs.tokens_in(PIECE_S * WHOLE, 0)

        def turn(sequence: Sequence) -> tuple[bool, int]:
            n_pending = sequence.n_pending
            return sequence is not oldest, n_pending if n_pending > whole else 0

        return sorted(prefilling, key=turn)

    def _pieces(
        self,
        order: list[Sequence],
        n_answers: int,
        seconds: float,
        whole_s: float,
        least: int = 0,
    ) -> list[ScheduledTokens]:
        """Complete prompts in order that take `seconds`, or a piece of the first.

        Computing one prompt after the other costs less than a part of each, and prompts that are
        complete decode together. Only a prompt that does not fit into one step is computed in
        pieces, alone.

        Args:
            whole_s: the time for one prompt or its piece, or for several that cost less together.
            least: tokens that are computed even if they take longer.
        """
        n_batch, n_rows = self._limits.n_batch - n_answers, self._limits.n_rows - n_answers
        depth = order[0].n_computed
        wanted = max(self._costs.tokens_in(seconds, depth), least, LEAST_TOKENS)
        whole = max(self._costs.tokens_in(whole_s, depth), wanted)
        most = min(n_batch, whole)
        if self._slots.n_free_cells < most + n_answers:
            most = min(most, self._slots.n_available_cells() - n_answers)
        several = min(most, wanted)
        items: list[ScheduledTokens] = []
        left = most
        for sequence in order:
            share = sequence.n_pending if sequence.n_pending <= left else _in_tiles(left)
            if sequence.n_unscored:
                share = min(share, n_rows)
            if share < 1 or n_rows < 1 or (items and share < sequence.n_pending):
                continue
            items.append(ScheduledTokens.of(sequence, share))
            left = several = several - share
            n_rows -= items[-1].n_rows
        self._n_pieces += bool(items)
        together = min(n_batch, self._limits.n_together, whole)
        return items + _companions(items, order, together, n_rows)


def _in_tiles(n_tokens: int) -> int:
    multiple = TILE if n_tokens >= 2 * TILE else TILE // 2
    return n_tokens - n_tokens % multiple if n_tokens > multiple else n_tokens


def _companions(
    items: list[ScheduledTokens], prompts: list[Sequence], most: int, n_rows: int
) -> list[ScheduledTokens]:
    """More complete prompts of about the length of the one in `items`: together they cost less, and
    because they begin together they decode together to their end.

    Args:
        most: tokens of all of them.
    """
    if not items:
        return []
    first = items[0]
    if not first.completes or first.n_rows > 1:
        return []
    n_more = min(most // first.n_tokens - len(items), n_rows)
    chosen = {item.sequence for item in items}
    candidates = [
        sequence
        for sequence in prompts
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
