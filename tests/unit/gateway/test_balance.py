"""Which worker gets a call."""

from collections import Counter
from hashlib import sha256

import pytest

from gateway.pool.balance import least_outstanding, sticky
from gateway.pool.endpoint import Endpoint


def workers(*outstanding: int) -> list[Endpoint]:
    found = [Endpoint(f"w{i}:1") for i in range(len(outstanding))]
    for endpoint, n in zip(found, outstanding, strict=True):
        endpoint.n_outstanding = n
    return found


def keys(n: int) -> list[int]:
    return [int.from_bytes(sha256(b"conversation %d" % i).digest()[:8], "big") for i in range(n)]


def test_a_conversation_stays_with_its_worker() -> None:
    for key in keys(50):
        assert len({sticky(workers(0, 0, 0), key).address for _ in range(5)}) == 1


def test_conversations_spread_over_all_workers() -> None:
    chosen = Counter(sticky(workers(0, 0, 0), key).address for key in keys(300))
    assert len(chosen) == 3
    assert min(chosen.values()) > 50


def test_a_worker_that_leaves_moves_only_its_own_conversations() -> None:
    three = workers(0, 0, 0)
    for key in keys(100):
        before = sticky(three, key)
        if before is not three[2]:
            assert sticky(three[:2], key).address == before.address


def test_an_overloaded_worker_gets_no_more() -> None:
    three = workers(9, 0, 0)
    assert all(sticky(three, key).address != "w0:1" for key in keys(50))
    assert three[0].n_diverted == sum(
        sticky(workers(0, 0, 0), k).address == "w0:1" for k in keys(50)
    )


def test_one_worker_takes_everything() -> None:
    assert sticky(workers(99), 7).address == "w0:1"


@pytest.mark.parametrize("outstanding", [(3, 1, 2), (5, 5, 0)])
def test_embeddings_go_where_fewest_wait(outstanding: tuple[int, ...]) -> None:
    assert least_outstanding(workers(*outstanding)).n_outstanding == min(outstanding)


def test_equals_are_chosen_at_random() -> None:
    assert len({least_outstanding(workers(0, 0, 0)).address for _ in range(200)}) == 3
