"""Conversations that lost their slot go on from memory, with real models in real processes."""

from itertools import count
from pathlib import Path

import pytest

from chat_worker.engine.disk_prefix_cache import SUFFIX
from tests.running_stack import wait_until
from tests.unit.chat_worker.conftest import GUIDE
from tests.unit.chat_worker.engine_pipe import EXIT_WITHIN_S
from tests.unit.chat_worker.test_disk_prefix_cache import ask, loaded
from worker_runtime.engine_process import protocol
from worker_runtime.memory.probe import process_memory

LIMIT_BYTES = 64 << 20


def turn(number: int) -> str:
    return f"{number} {'tell me a long story ' * 12}"


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("n_parallel", [1, 4], ids=["one pool", "own cells"])
def test_a_turn_from_memory_says_the_same_as_one_that_computes_everything(
    tmp_path: Path, n_parallel: int, kv_type: str
) -> None:
    changed = {"n_parallel": n_parallel, "kv_type": kv_type, "kept_folder": ""}
    with loaded(GUIDE, tmp_path, **changed) as pipe:
        pipe.send(protocol.LimitCaches(LIMIT_BYTES))
        answers = [ask(pipe, turn(number))[0] for number in range(12)]
        for number, answer in enumerate(answers):
            second, n_cached = ask(pipe, turn(number), answer, "go on")
            assert n_cached > len(turn(number).split())
            assert ask(pipe, turn(number), answer, "go on", salt=f"fresh {number}") == (second, 0)


def test_nothing_is_kept_before_the_worker_allows_it_or_after_it_takes_that_back(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with loaded(tiny_gguf, tmp_path, n_parallel=4, kept_folder="") as pipe:

        def come_back() -> int:
            for number in range(6):
                ask(pipe, turn(number))
            return ask(pipe, turn(0))[1]

        # Only what the template begins every conversation with is in some slot.
        n_template = come_back()
        pipe.send(protocol.LimitCaches(LIMIT_BYTES))
        assert come_back() > n_template + 12
        pipe.send(protocol.LimitCaches(0))
        assert come_back() == n_template


def test_memory_that_is_taken_back_while_answers_run_is_free_at_once(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with loaded(tiny_gguf, tmp_path, n_parallel=4, n_ctx=4096, kept_folder="") as pipe:
        pipe.send(protocol.LimitCaches(LIMIT_BYTES))
        for number in range(12):
            ask(pipe, turn(number) * 8)
        full = process_memory(pipe.process.pid).anonymous_bytes
        pipe.send(protocol.LimitCaches(0))
        ask(pipe, "hello")
        # Each of them takes some 300 KiB.
        assert process_memory(pipe.process.pid).anonymous_bytes < full - (1 << 20)


def test_what_memory_does_not_hold_is_on_disk_before_the_process_ends(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with loaded(tiny_gguf, tmp_path, n_parallel=4) as pipe:
        for number in range(6):
            ask(pipe, turn(number))
            wait_until(
                (len(list(tmp_path.glob(f"*/*{SUFFIX}"))) >= number - 3 for _ in count()),
                EXIT_WITHIN_S,
                "what a slot lost is written",
            )
        assert ask(pipe, turn(0))[1] > len(turn(0).split())
