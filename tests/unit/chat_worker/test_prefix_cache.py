"""What a slot loses is kept, bounded, and found again by whoever may have it; nothing else is."""

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from chat_worker.engine.disk_prefix_cache import SUFFIX, DiskPrefixCache
from chat_worker.engine.prefix_cache import PrefixCache
from chat_worker.engine.runner import KeepSlot
from chat_worker.engine.sequence import Sequence
from tests.unit.chat_worker.fake_runner import (
    STATE_BYTES,
    FakeRunner,
    FakeStates,
    continuation,
    held_in,
    limits,
)
from tests.unit.chat_worker.scheduling import Driver, output, sequence

MIB = 1 << 20
N_NEW = 4
OWN_CELLS = limits(n_slots=4, n_cells=4 * 256, shares_cells=False)
POOL = limits(n_slots=8, n_cells=300)


def conversation(number: int, n_tokens: int = 120) -> list[int]:
    return random.Random(number).choices(range(2, 64), k=n_tokens)


def ask(driver: Driver, prompt: list[int], salt: str = "") -> Sequence:
    """The next turn, checked against the model's answer without any cache."""
    one = sequence(prompt, N_NEW, salt)
    driver.run(one)
    assert output(one) == continuation(prompt, N_NEW)
    return one


def n_bytes(cache: PrefixCache) -> int:
    return sum(prefix.state.nbytes for prefix in cache.held)


def check(cache: PrefixCache, max_bytes: int) -> None:
    """What is kept is what it is kept as, and no more than allowed."""
    assert n_bytes(cache) <= max_bytes
    for prefix in cache.held:
        assert held_in(prefix.state) == prefix.tokens


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


def on_disk(folder: Path, **changed: object) -> DiskPrefixCache:
    plain: dict[str, object] = {"identity": "model", "max_bytes": MIB, "whole": False}
    return DiskPrefixCache(folder, **(plain | changed))  # type: ignore[arg-type]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/*{SUFFIX}"))


def stored(folder: Path, *numbers: int) -> None:
    """Leave conversations on disk as an engine that ends does."""
    driver = Driver(OWN_CELLS, disk=on_disk(folder))
    for number in numbers:
        ask(driver, conversation(number))
        driver.offload.put_away(lambda: True)


def test_what_does_not_fit_into_memory_goes_to_disk_and_comes_back(tmp_path: Path) -> None:
    disk = on_disk(tmp_path)
    driver = Driver(OWN_CELLS, max_bytes=STATE_BYTES * 300, disk=disk)
    for number in range(12):
        ask(driver, conversation(number))
        disk.finish(lambda: True)
    for number in range(12):
        assert (ask(driver, [*conversation(number), 3, 3]).n_cached or 0) >= 120
        check(driver.prefixes, STATE_BYTES * 300)
        disk.finish(lambda: True)


def test_without_memory_prefixes_go_to_disk_only(tmp_path: Path) -> None:
    disk = on_disk(tmp_path)
    driver = Driver(OWN_CELLS, disk=disk)
    for number in range(8):
        ask(driver, conversation(number))
        disk.finish(lambda: True)
    assert n_bytes(driver.prefixes) == 0
    assert ask(driver, conversation(0)).n_cached == 119


def test_a_damaged_file_is_deleted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, 0, 1)
    damaged, cut = files(tmp_path)
    for path, whole in ((damaged, True), (cut, False)):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content if whole else content[:-5])
    driver = Driver(OWN_CELLS, disk=on_disk(tmp_path))
    for number in (0, 1):
        assert ask(driver, conversation(number)).n_cached == 0
    assert not files(tmp_path)
    said = capsys.readouterr().err
    assert said.count("is damaged or of another version") == 2


def test_a_file_of_somebody_else_is_left_alone_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, 0)
    (own,) = files(tmp_path)
    foreign = own.with_name(f"holiday\n{SUFFIX}") if own.drive == "" else own.with_name("a.kv")
    foreign.write_bytes(b"not ours")
    driver = Driver(OWN_CELLS, disk=on_disk(tmp_path, max_bytes=1))
    ask(driver, conversation(1))
    driver.offload.put_away(lambda: True)
    assert foreign.read_bytes() == b"not ours"
    (said,) = capsys.readouterr().err.splitlines()
    assert "not one of its files" in said


def test_a_file_under_the_name_of_another_is_not_used(tmp_path: Path) -> None:
    stored(tmp_path, 0, 1)
    disk = on_disk(tmp_path)
    first, second = files(tmp_path)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    driver = Driver(OWN_CELLS, disk=disk)
    for number in (0, 1):
        assert ask(driver, conversation(number)).n_cached == 0


def test_files_of_another_model_or_setting_are_not_seen(tmp_path: Path) -> None:
    stored(tmp_path, 0)
    assert on_disk(tmp_path, identity="other").longest(conversation(0), "")[1] == 0


def test_the_folder_is_bounded_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    most = 3 * STATE_BYTES * 124 + 3_000
    disk = on_disk(folder, max_bytes=most)
    driver = Driver(OWN_CELLS, disk=disk)
    for number in range(12):
        ask(driver, conversation(number))
        driver.offload.put_away(lambda: True)
        assert sum(path.stat().st_size for path in files(folder)) <= most
    assert len(files(folder)) > 1
    if not folder.drive:
        modes = [
            path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir(), *files(folder))
        ]
        assert set(modes) == {0o700, 0o600}


def test_what_there_is_no_time_for_is_lost_and_what_was_used_last_is_written(
    tmp_path: Path,
) -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB, disk=on_disk(tmp_path))
    for number in range(8):
        ask(driver, conversation(number))
    turns = iter([True] * 7 + [False] * 20)
    assert not driver.offload.put_away(lambda: next(turns))
    again = Driver(OWN_CELLS, disk=on_disk(tmp_path))
    found = [bool(ask(again, conversation(number)).n_cached) for number in range(8)]
    assert found == [number > 0 for number in range(8)]


def test_caches_are_freed_once_all_is_on_disk_and_not_while_something_else_is_to_do(
    tmp_path: Path,
) -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB, disk=on_disk(tmp_path))
    for number in range(8):
        ask(driver, conversation(number))
    turns = iter([True] * 3 + [False] * 20)
    assert not driver.offload.shed(lambda: next(turns))
    assert len(driver.prefixes.held) == 4
    assert driver.runner.n_sheds == 0
    assert driver.offload.shed(lambda: True)
    assert (driver.prefixes.held, driver.runner.n_sheds) == ([], 1)
    for number in range(8):
        assert ask(driver, [*conversation(number), 3]).n_cached == 120


def test_a_turn_that_a_slot_holds_is_not_replaced_by_the_one_before_it(tmp_path: Path) -> None:
    driver = Driver(OWN_CELLS, max_bytes=MIB, disk=on_disk(tmp_path))
    # The client sends another answer than the one that was computed.
    turn = [*conversation(0), 60, 61, 62]
    for number in range(6):
        ask(driver, conversation(number))
    assert (ask(driver, turn).n_cached or 0) >= 120
    driver.offload.put_away(lambda: True)
    again = Driver(OWN_CELLS, disk=on_disk(tmp_path))
    assert ask(again, turn).n_cached == len(turn) - 1


def test_salts_are_not_in_the_files(tmp_path: Path) -> None:
    driver = Driver(OWN_CELLS, disk=on_disk(tmp_path))
    ask(driver, conversation(0), "key of a person")
    driver.offload.put_away(lambda: True)
    (file,) = files(tmp_path)
    assert b"key of a person" not in file.read_bytes()
    assert ask(Driver(OWN_CELLS, disk=on_disk(tmp_path)), conversation(0)).n_cached == 0
