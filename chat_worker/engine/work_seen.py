"""Counts what a model is used for, by how many tokens the products of its steps have.

The next load stores matrices in the order that is fastest for such work, see
`worker_runtime/weight_buffers.py`: some compute prompts faster, and some answers.
"""

from collections.abc import Iterable, Mapping

from chat_worker.engine.runner import ScheduledTokens
from worker_runtime.product_timing import GROUP, PIECE

# Work counts half after so many more tokens: people change what they do.
HALF_TOKENS = 100_000


class WorkSeen:
    """
    Args:
        known: from before this load, as `products`.
    """

    def __init__(self, known: Mapping[int, float]) -> None:
        self._products = {PIECE: 0.0, GROUP: 0.0, 1: 0.0}
        self._products |= {n: known[n] for n in self._products.keys() & known.keys()}

    @property
    def products(self) -> dict[int, float]:
        """How many products there were, by their number of tokens."""
        return dict(self._products)

    def learn(self, items: Iterable[ScheduledTokens]) -> None:
        """Count a step. Prompts count in pieces; items of one token are answers, with what is
        guessed to follow, and count in groups and the rest alone, as kernels compute them."""
        n_answers = 0
        for item in items:
            if item.n_tokens > 1:
                self._products[PIECE] += item.n_tokens / PIECE
            else:
                n_answers += item.size
        groups, alone = divmod(n_answers, GROUP)
        self._products[GROUP] += groups
        self._products[1] += alone
        if sum(n * count for n, count in self._products.items()) > 2 * HALF_TOKENS:
            self._products = {n: count / 2 for n, count in self._products.items()}
