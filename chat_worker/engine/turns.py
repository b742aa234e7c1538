"""Whose turn it is, prompts' or answers', where computing both in one step costs as much as apart.

Pieces of prompts are cheap if they are large, and clients read on if several tokens come at a time.
So answers wait while prompts are computed, and then go on for a while. The wait is an account: what
prompts took while answers waited is added, and answers pay it back by going on.

A step with a few answers costs nearly as much as one with many. While prompts wait, going on with
the few that have begun is therefore partly a waste: their tokens would cost less later, together
with those of the others. Each prompt that waits behind the first one pays for it again. So the more
prompts wait, and the more there is to gain, the fewer tokens answers get meanwhile, down to one
after each longest wait. Beside a single prompt nobody else pays, and text flows.
"""

# The default of the longest wait.
ANSWER_WAIT_S = 2.5
# Beside a prompt that takes longer than answers may wait, they go on about this often, if pieces
# that small are efficient.
FLOW_S = 0.4
# Answers go on for so many tokens after a wait, or for this share of the time that they waited.
ANSWER_TOKENS = 24
ANSWER_SHARE = 1 / 8
# The waste may delay prompts, all those behind the first one together, by this share of the time.
WASTE_SHARE = 0.02
# Answers that have only their first token wait so many times longer: nobody reads yet, and answers
# that begin together end together, which costs less.
BEGINNING = 4


class Turns:
    """The account of one engine's answers.

    Args:
        most_s: the longest wait of answers that are being read.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._waited_s = self._peak_s = 0.0
        self._is_answers = False

    def left_s(
        self, rest_s: float, prompt_s: float, least_s: float, waste_s: float, *, have_begun: bool
    ) -> float:
        """How long prompts may be computed before the answers go on; 0: the answers go on now.

        Args:
            rest_s: cost of the rest of the prompt that is next, which is computed at once if there
                is time for it.
            prompt_s: cost of the prompt from where the cache ended. One that is too long as a whole
                goes on in small pieces to its end, if these cost little more.
            least_s: cost of an efficient piece of it, for which there is time after each turn
                unless it takes longer than answers may wait.
            waste_s: by which the answers' next step would delay the prompts behind the first one,
                all of them together.
        """
        if self._is_answers:
            return 0.0
        most_s = self._most_s if have_begun else self._most_s * BEGINNING
        goes_on = prompt_s > most_s and least_s <= FLOW_S / 2
        if self._waited_s + rest_s <= most_s and not goes_on:
            return most_s - self._waited_s
        least_s = min(least_s, self._most_s)
        flow_s = min(max(FLOW_S, waste_s / WASTE_SHARE), self._most_s)
        left_s = max(flow_s, least_s) - self._waited_s
        self._is_answers = left_s < least_s
        return 0.0 if self._is_answers else left_s

    def prompts_took(self, seconds: float) -> None:
        """Prompts were computed so long while answers waited."""
        self._waited_s += seconds
        self._peak_s = self._waited_s

    def answers_took(self, seconds: float, waste_s: float) -> None:
        """The answers got their next tokens, which delayed the prompts behind the first one by
        `waste_s` in sum."""
        paid_s = max(seconds / ANSWER_SHARE, self._peak_s / ANSWER_TOKENS, waste_s / WASTE_SHARE)
        self._waited_s -= paid_s
        # What is left of it is rounding.
        if self._waited_s <= self._peak_s * 1e-6:
            self._waited_s = self._peak_s = 0.0
            self._is_answers = False
