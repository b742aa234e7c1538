"""The ranges of sampling parameters, bounds included, and the defaults where a request has none.

The gateway's schemas and the worker's checks use the same table, so that neither refuses what the
other accepts.
"""

from typing import NamedTuple


class Range(NamedTuple):
    """A range of numbers, both bounds included."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether `value` is in the range; NaN never is."""
        return self.low <= value <= self.high


DEFAULT_TEMPERATURE = 0.7
DEFAULT_TOP_P = 0.9

MAX_TOKENS = 2**20

RANGES = {
    # OpenAI's ranges.
    "temperature": Range(0, 2),
    "top_p": Range(0, 1),
    "frequency_penalty": Range(-2, 2),
    "presence_penalty": Range(-2, 2),
    "logit_bias": Range(-100, 100),
    "top_logprobs": Range(0, 20),
    # Our own. max_tokens 0: only read the prompt; top_k 0: no limit.
    "max_tokens": Range(0, MAX_TOKENS),
    "n": Range(1, 8),
    "top_k": Range(0, 2**20),
    "min_p": Range(0, 1),
    "repetition_penalty": Range(0.01, 10),
}

# Ranges of gateway APIs that are different by that API's definition.
API_RANGES = {
    # Only the completions endpoint may ask for no tokens.
    "answer.max_tokens": Range(1, MAX_TOKENS),
    # A negative seed is sent to workers as the unsigned number with the same 64 bits.
    "openai.seed": Range(-(2**63), 2**63 - 1),
    # -1 means no limit for vLLM's clients; workers get 0.
    "openai.top_k": Range(-1, 2**20),
    "anthropic.temperature": Range(0, 1),
    "anthropic.budget_tokens": Range(1024, MAX_TOKENS),
}
