"""Which worker gets a call: pure functions over endpoints."""

import hashlib
import random
from collections.abc import Sequence

from gateway.pool.endpoint import Endpoint

# A worker may have this many times the average load before its conversations go elsewhere.
LOAD_BOUND = 1.25


def least_outstanding(candidates: Sequence[Endpoint]) -> Endpoint:
    """The endpoint with the fewest outstanding calls; a random one of several."""
    fewest = min(endpoint.n_outstanding for endpoint in candidates)
    return random.choice([e for e in candidates if e.n_outstanding == fewest])


def sticky(candidates: Sequence[Endpoint], key: bytes) -> Endpoint:
    """The endpoint of all calls with `key`, where their KV cache is, unless it is overloaded.

    Source: Thaler & Ravishankar 1998 (rendezvous hashing); Mirrokni et al. 2017 (bounded loads).
    """
    if len(candidates) == 1:
        return candidates[0]
    total = sum(endpoint.n_outstanding for endpoint in candidates) + 1
    bound = LOAD_BOUND * total / len(candidates)
    first = max(candidates, key=lambda endpoint: _weight(endpoint.address, key))
    if first.n_outstanding < bound:
        return first
    first.n_diverted += 1
    free = [endpoint for endpoint in candidates if endpoint.n_outstanding < bound]
    if not free:
        return least_outstanding(candidates)
    return max(free, key=lambda endpoint: _weight(endpoint.address, key))


def _weight(address: str, key: bytes) -> bytes:
    return hashlib.blake2b(key + address.encode(), digest_size=8).digest()
