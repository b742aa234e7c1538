"""Which worker gets a call: pure functions over endpoints."""

import random
from collections.abc import Sequence
from operator import itemgetter

from gateway.pool.endpoint import Endpoint

# A worker may have this many times the average load before its conversations go elsewhere.
LOAD_BOUND = 1.25
# 2^64 over the golden ratio: a multiple by it, modulo 2^64, has all bits of a number in its first.
GOLDEN, MASK = 0x9E3779B97F4A7C15, 2**64 - 1


def least_outstanding(candidates: Sequence[Endpoint]) -> Endpoint:
    """The endpoint with the fewest outstanding calls; a random one of several."""
    fewest = min(endpoint.n_outstanding for endpoint in candidates)
    return random.choice([e for e in candidates if e.n_outstanding == fewest])


def sticky(candidates: Sequence[Endpoint], key: int) -> Endpoint:
    """The endpoint of all calls with `key`, where their KV cache is, unless it is overloaded.

    Args:
        key: 64 bits of a hash.
    Source: Thaler & Ravishankar 1998 (rendezvous hashing); Mirrokni et al. 2017 (bounded loads);
    Knuth, The Art of Computer Programming 3, section 6.4 (multiplicative hashing).
    """
    if len(candidates) == 1:
        return candidates[0]
    total = sum(endpoint.n_outstanding for endpoint in candidates) + 1
    bound = LOAD_BOUND * total / len(candidates)
    weights = [(endpoint.place ^ key) * GOLDEN & MASK for endpoint in candidates]
    first = candidates[weights.index(max(weights))]
    if first.n_outstanding < bound:
        return first
    first.n_diverted += 1
    pairs = zip(weights, candidates, strict=True)
    free = [(weight, e) for weight, e in pairs if e.n_outstanding < bound]
    if not free:
        return least_outstanding(candidates)
    return max(free, key=itemgetter(0))[1]
