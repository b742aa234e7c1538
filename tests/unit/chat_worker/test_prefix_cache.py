"""What a slot loses is kept, bounded, and found again by whoever may have it; nothing else is."""

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from chat_worker.engine.disk_prefix_cache import DiskPrefixCache
from chat_worker.engine.prefix_cache import PrefixCache
from chat_worker.engine.runner import KeepSlot
from chat_worker.engine.sequence import Sequence
from tests.unit.chat_worker.conversations import (
    MIB,
    N_NEW,
    OWN_CELLS,
    ask,
    check,
    conversation,
    n_bytes,
)
from tests.unit.chat_worker.fake_runner import (
    STATE_BYTES,
    FakeRunner,
    FakeStates,
    continuation,
    limits,
)
from tests.unit.chat_worker.scheduling import Driver, output, sequence

POOL = limits(n_slots=8, n_cells=300)


@pytest.mark.parametrize("bounds", [OWN_CELLS, POOL], ids=["own cells", "one pool"])
def test_twelve_conversations_that_take_turns_in_four_slots_are_computed_once(
    bounds: object,
) -> None:
    driver = Driver(bounds, max_bytes=MIB)  # type: ignore[arg-type]
    prompts = [conversation(number) for number in range(12)]
    for prompt in prompts:
        ask(driver, prompt)
    before = driver.runner.n_computed
    for prompt in prompts:
        again = ask(driver, [*prompt, *continuation(prompt, N_NEW), 5, 6, 7])
        # The last token of an answer is not computed.
        assert again.n_cached == len(prompt) + N_NEW - 1
    assert driver.runner.n_computed - before == 12 * (4 + N_NEW - 1)


def test_a_conversation_that_comes_back_while_others_run_is_not_computed_again() -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB)
    # They fill their slots nearly.
    prompts = [conversation(number, 230) for number in range(12)]
    for prompt in prompts:
        ask(driver, prompt)
    driver.runner.n_computed = 0
    again = [sequence([*prompt, *continuation(prompt, N_NEW), 5], N_NEW) for prompt in prompts]
    driver.run(*again)
    assert [one.n_cached for one in again] == [len(prompt) + N_NEW - 1 for prompt in prompts]
    assert driver.runner.n_computed == 12 * (2 + N_NEW - 1)


def test_a_system_prompt_that_no_slot_holds_any_more_is_not_computed_again() -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB)
    system = conversation(0, 100)
    ask(driver, [*system, *conversation(1, 50)])
    for number in range(2, 10):
        ask(driver, conversation(number))
    assert ask(driver, [*system, *conversation(10, 50)]).n_cached == len(system)


def test_prefixes_of_one_key_are_never_found_with_another() -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB)
    prompt = conversation(0)
    ask(driver, prompt, "mine")
    for number in range(1, 8):
        ask(driver, conversation(number), "mine")
    assert ask(driver, prompt, "yours").n_cached == 0
    assert ask(driver, prompt).n_cached == 0
    assert ask(driver, prompt, "mine").n_cached == len(prompt) - 1


def test_the_least_recently_used_prefixes_go_when_there_is_no_room() -> None:
    most = int(3.5 * STATE_BYTES * 123)
    driver = Driver(OWN_CELLS, max_bytes=most)
    for number in range(20):
        ask(driver, conversation(number))
        check(driver.prefixes, most)
    kept = [prefix.tokens[:120] for prefix in driver.prefixes.held]
    assert kept == [conversation(number) for number in (15, 14, 13)]


def test_a_prefix_larger_than_the_limit_drops_no_other() -> None:
    driver = Driver(OWN_CELLS, max_bytes=STATE_BYTES * 200)
    for number in range(5):
        ask(driver, conversation(number))
    (kept,) = driver.prefixes.held
    for number in range(10, 14):
        ask(driver, conversation(number, 240))
    for number in range(20, 24):
        ask(driver, conversation(number, 10))
    assert len(driver.prefixes.held) == 1
    check(driver.prefixes, STATE_BYTES * 200)
    assert kept.tokens


def test_what_another_prefix_contains_is_not_kept_beside_it() -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB)
    states, cache = FakeStates(driver.runner), driver.prefixes
    long, short = conversation(0), conversation(0)[:60]
    for tokens in (short, long, short):
        driver.runner.held[0] = list(tokens)
        cache.keep(KeepSlot(0, list(tokens), ""))
    assert [prefix.tokens for prefix in cache.held] == [long]
    driver.runner.held[0] = []
    assert states.size(0, 0) == 0


def test_memory_is_given_back_at_once_when_the_limit_falls() -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB)
    for number in range(10):
        ask(driver, conversation(number))
    assert n_bytes(driver.prefixes) > 0
    driver.prefixes.limit(STATE_BYTES * 130)
    check(driver.prefixes, STATE_BYTES * 130)
    assert n_bytes(driver.prefixes) > 0
    driver.prefixes.limit(0)
    assert n_bytes(driver.prefixes) == 0
    assert ask(driver, conversation(0)).n_cached == 0


def test_a_state_that_the_backend_refuses_is_computed_again() -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB)
    for number in range(8):
        ask(driver, conversation(number))
    driver.states.refuses = True
    assert ask(driver, conversation(0)).n_cached == 0


def test_a_recurrent_model_finds_only_whole_prefixes() -> None:
    driver = Driver(limits(n_slots=4, can_truncate=False), max_bytes=MIB)
    prompts = [conversation(number) for number in range(8)]
    for prompt in prompts:
        ask(driver, prompt)
    grown = [*prompts[0], *continuation(prompts[0], N_NEW), 5]
    assert ask(driver, grown).n_cached == len(prompts[0]) + N_NEW - 1
    assert ask(driver, prompts[1][:100]).n_cached == 0


@pytest.mark.parametrize(("s_per_token", "is_kept"), [(1.0, True), (0.001, False)])
def test_only_what_takes_longer_to_compute_than_to_copy_is_kept(
    s_per_token: float, is_kept: bool
) -> None:
    ticks = count()
    runner = FakeRunner(OWN_CELLS)
    # Each reading of the clock is a second later, so a copy takes one second.
    cache = PrefixCache(FakeStates(runner), clock=lambda: float(next(ticks)))
    cache.limit(MIB)
    for number in range(3):
        cache.learn(100, 100 * s_per_token)
        tokens = conversation(number, 20)
        runner.held[0] = list(tokens)
        cache.keep(KeepSlot(0, tokens, ""))
    # How long a copy takes is known after the first one.
    assert len(cache.held) == (3 if is_kept else 1)


def steps(driver: Driver, waiting: list[Sequence], rng: random.Random) -> Iterator[None]:
    """Run sequences that begin, fail and leave at random moments, until all are gone."""
    while waiting or not driver.scheduler.is_idle:
        if waiting and rng.random() < 0.3:
            driver.scheduler.add(waiting.pop())
        if rng.random() < 0.05 and driver.scheduler.running:
            driver.scheduler.remove(rng.choice(driver.scheduler.running))
        if rng.random() < 0.05 and driver.scheduler.running:
            driver.scheduler.forget(rng.choice(driver.scheduler.running))
        if rng.random() < 0.02:
            driver.prefixes.limit(rng.choice([0, 2_000, 8_000]))
        driver.step()
        yield


@pytest.mark.parametrize("bounds", [OWN_CELLS, POOL], ids=["own cells", "one pool"])
@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_or_leaves_no_prefix_is_ever_taken_for_another(
    bounds: object, seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    disk = DiskPrefixCache(tmp_path, "model", 100_000, whole=False)
    driver = Driver(bounds, max_bytes=8_000, disk=disk)  # type: ignore[arg-type]
    systems = [conversation(number, 60) for number in range(3)]
    asked = [
        sequence(
            [*rng.choice(systems), *conversation(rng.randrange(20), rng.randrange(1, 120))],
            N_NEW,
            rng.choice(["", "a", "b"]),
        )
        for _ in range(150)
    ]
    for _ in steps(driver, list(asked), rng):
        check(driver.prefixes, 8_000)
    driver.scheduler.slots.check_integrity(driver.runner.length)
    for one in asked:
        assert output(one) == continuation(one.tokens[: one.n_prompt], one.n_generated)
    assert sum(one.n_cached or 0 for one in asked) > 1_000
    disk.finish(lambda: True)
