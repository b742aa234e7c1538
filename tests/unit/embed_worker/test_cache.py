"""The cache of vectors."""

from hypothesis import given
from hypothesis import strategies as st

from embed_worker.engine.cache import ITEM_BYTES, VectorCache
from worker_runtime.cache_counts import CacheCounts

ITEM = ITEM_BYTES + 1 + 8


def key(text: bytes) -> tuple[int, bytes]:
    return 0, text


def get(cache: VectorCache, text: bytes) -> bytes | None:
    return cache.find([key(text)]).get(key(text))


def test_a_vector_comes_back_until_its_time_is_over() -> None:
    now = [0.0]
    cache = VectorCache(1_000, ttl_s=10, clock=lambda: now[0])
    cache.put(key(b"a"), b"12345678")
    now[0] = 9.9
    assert get(cache, b"a") == b"12345678"
    now[0] = 10.0
    assert get(cache, b"a") is None
    assert (cache.counts.hits, cache.counts.misses, cache.counts.n_bytes) == (1, 1, 0)


def test_the_least_recently_used_vector_goes_first() -> None:
    cache = VectorCache(2 * ITEM, ttl_s=10)
    cache.put(key(b"a"), b"12345678")
    cache.put(key(b"b"), b"12345678")
    get(cache, b"a")
    cache.put(key(b"c"), b"12345678")
    assert get(cache, b"b") is None
    assert get(cache, b"a") is not None
    assert cache.counts.evictions == 1


def test_texts_that_differ_in_their_prompt_only_have_each_their_vector() -> None:
    cache = VectorCache(10_000, ttl_s=10)
    cache.put((0, b"a"), b"without ")
    cache.put((3, b"a"), b"prompted")
    found = cache.find([(0, b"a"), (3, b"a")])
    assert found == {(0, b"a"): b"without ", (3, b"a"): b"prompted"}


def test_a_vector_from_elsewhere_keeps_its_age() -> None:
    now = [100.0]
    cache = VectorCache(1_000, ttl_s=10, clock=lambda: now[0])
    cache.put(key(b"a"), b"12345678", age_s=9)
    assert get(cache, b"a") is not None
    now[0] = 101.0
    assert get(cache, b"a") is None


def test_sums_are_told_once_and_what_is_kept_each_time() -> None:
    cache = VectorCache(1_000, ttl_s=10)
    cache.put(key(b"a"), b"12345678")
    cache.find([key(b"a"), key(b"b")])
    told = [cache.take_counts()["memory"] for _ in range(2)]
    assert told == [CacheCounts(1, 1, 0, ITEM, 1), CacheCounts(0, 0, 0, ITEM, 1)]


def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    cache = VectorCache(0, ttl_s=10)
    cache.put(key(b"a"), b"12345678")
    assert get(cache, b"a") is None


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
        assert get(cache, text) in (None, vector)
