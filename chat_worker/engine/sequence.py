"""One sequence of tokens that is being generated: ids and counters, no text."""

from dataclasses import dataclass, field
from typing import Literal

from chat_worker.engine.prompt_lookup import PromptLookup
from chat_worker.engine.sampling import Sampler

EndReason = Literal["stop", "length"]


@dataclass(eq=False, slots=True, kw_only=True)
class Sequence:
    """One choice of a request.

    Args:
        call_id: of the request; `choice` is the index in that request.
        tokens: the prompt, then the generated tokens.
        limit: the most tokens in all; generation ends there.
        end_tokens: ids that end the sequence; they are not reported.
        salt: only sequences of equal salt share KV cells.
        n_top: alternatives to report per token; None: no log-probabilities.
        score_prompt: report log-probabilities of the prompt's tokens too.
        prompt_lookup: guesses the next tokens; None: one token a step.
    """

    call_id: int
    choice: int
    tokens: list[int]
    limit: int
    sampler: Sampler
    end_tokens: frozenset[int] = frozenset()
    salt: str = ""
    n_top: int | None = None
    score_prompt: bool = False
    prompt_lookup: PromptLookup | None = None

    n_prompt: int = field(init=False)
    n_unscored: int = field(init=False)  # prompt tokens whose log-probability is not reported yet
    n_computed: int = 0  # leading tokens whose keys and values are in its slot
    slot: int | None = None
    n_cached: int | None = None  # prompt tokens found in the cache when it was first admitted
    submitted_s: float = 0.0
    admitted_s: float = 0.0
    first_token_s: float = 0.0

    def __post_init__(self) -> None:
        self.n_prompt = len(self.tokens)
        self.n_unscored = self.n_prompt - 1 if self.score_prompt else 0

    @property
    def n_pending(self) -> int:
        """The number of tokens to compute before the next one can be sampled."""
        return len(self.tokens) - self.n_computed

    @property
    def n_generated(self) -> int:
        return len(self.tokens) - self.n_prompt
