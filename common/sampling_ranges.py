"""In which range each number of a request is that says how tokens are chosen, bounds included, and
what is meant where a request has none.

The one table for the gateway's schemas and for the worker's own checks, so that neither refuses
what the other lets pass.
"""

from typing import NamedTuple


class Range(NamedTuple):
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """NaN is in no range."""
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
    # Ours. 0 tokens: the prompt is only read; 0 of top_k: all.
    "max_tokens": Range(0, MAX_TOKENS),
    "n": Range(1, 8),
    "top_k": Range(0, 2**20),
    "min_p": Range(0, 1),
    "repetition_penalty": Range(0.01, 10),
}

# Where one of the gateway's APIs has another range, because its own definition does.
API_RANGES = {
    # Only completions may ask for nothing but the prompt.
    "answer.max_tokens": Range(1, MAX_TOKENS),
    # Negative seeds are the same 64 bits, which is how workers get them.
    "openai.seed": Range(-(2**63), 2**63 - 1),
    # -1: all, as vLLM's clients say it; workers get 0.
    "openai.top_k": Range(-1, 2**20),
    "anthropic.temperature": Range(0, 1),
    "anthropic.budget_tokens": Range(1024, MAX_TOKENS),
}
