"""The cache of vectors."""

from hypothesis import given
from hypothesis import strategies as st

from embed_worker.engine.cache import ITEM_BYTES, VectorCache

ITEM = ITEM_BYTES + 1 + 8


def key(text: bytes) -> tuple[int, bytes]:
    return 0, text


def test_a_vector_comes_back_until_its_time_is_over() -> None:
    now = [0.0]
    cache = VectorCache(1_000, ttl_s=10, clock=lambda: now[0])
    cache.put(key(b"a"), b"12345678")
    now[0] = 9.9
    assert cache.get(key(b"a")) == b"12345678"
    now[0] = 10.0
    assert cache.get(key(b"a")) is None
    assert (cache.counts.hits, cache.counts.misses, cache.counts.n_bytes) == (1, 1, 0)


def test_the_least_recently_used_vector_goes_first() -> None:
    cache = VectorCache(2 * ITEM, ttl_s=10)
    cache.put(key(b"a"), b"12345678")
    cache.put(key(b"b"), b"12345678")
    cache.get(key(b"a"))
    cache.put(key(b"c"), b"12345678")
    assert cache.get(key(b"b")) is None
    assert cache.get(key(b"a")) is not None
    assert cache.counts.evictions == 1


def test_texts_that_differ_in_their_prompt_only_have_each_their_vector() -> None:
    cache = VectorCache(10_000, ttl_s=10)
    cache.put((0, b"a"), b"without ")
    cache.put((3, b"a"), b"prompted")
    assert cache.get((0, b"a")) == b"without "
    assert cache.get((3, b"a")) == b"prompted"


def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    cache = VectorCache(0, ttl_s=10)
    cache.put(key(b"a"), b"12345678")
    assert cache.get(key(b"a")) is None


@given(st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=400)), max_size=60))
def test_the_bytes_stay_below_the_limit_and_every_hit_is_the_latest_put(
    puts: list[tuple[bytes, bytes]],
) -> None:
    cache = VectorCache(3 * ITEM, ttl_s=10)
    latest: dict[bytes, bytes] = {}
    for text, vector in puts:
        cache.put(key(text), vector)
        latest[text] = vector
        assert 0 <= cache.counts.n_bytes <= 3 * ITEM
    for text, vector in latest.items():
        assert cache.get(key(text)) in (None, vector)
