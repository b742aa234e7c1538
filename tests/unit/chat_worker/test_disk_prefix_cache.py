"""Conversations go on where they were after their model was unloaded and loaded again."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from chat_worker import pipe_messages as m
from chat_worker.engine.disk_prefix_cache import SUFFIX
from tests.running_stack import wait_until
from tests.unit.chat_worker.engine_pipe import EXIT_WITHIN_S, EnginePipe
from worker_runtime.engine_process import protocol
from worker_runtime.memory.probe import process_memory

TURN = "tell me a long story " * 8
GREEDY = m.Sampling(temperature=0)


@contextmanager
def loaded(gguf: Path, folder: Path, **changed: object) -> Iterator[EnginePipe]:
    """An engine that is stopped as an unload does it."""
    plain = {"kept_folder": str(folder), "kept_bytes": 2**30, "fingerprint": "fp"}
    with EnginePipe() as pipe:
        assert isinstance(pipe.load(gguf, **(plain | changed)), protocol.Loaded)
        yield pipe
        pipe.send(protocol.Stop())
        assert pipe.process.wait(EXIT_WITHIN_S) == 0


def ask(pipe: EnginePipe, *turns: str, salt: str = "") -> tuple[str, int]:
    """The answer, and how many tokens of the prompt were found."""
    roles = ("user", "assistant")
    messages = [m.Message(roles[i % 2], turn) for i, turn in enumerate(turns)]
    events, error = pipe.ask(
        m.Generate(
            input=m.Conversation(messages),
            sampling=GREEDY,
            max_tokens=12,
            ignore_eos=True,
            cache_salt=salt,
        )
    )
    assert error is None
    (begun,) = [event for event in events if isinstance(event, m.Started)]
    text = "".join(event.text for event in events if isinstance(event, m.Delta))
    return text, begun.cached_tokens


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/*{SUFFIX}"))


def test_the_second_turn_after_a_reload_finds_the_first_and_says_the_same(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with loaded(tiny_gguf, tmp_path) as pipe:
        first, _ = ask(pipe, TURN)
    with loaded(tiny_gguf, tmp_path) as pipe:
        second, n_cached = ask(pipe, TURN, first, "go on")
        assert n_cached > len(TURN.split())
        assert ask(pipe, TURN, first, "go on", salt="fresh") == (second, 0)
    # What the conversation was a turn earlier is not kept beside it.
    assert len(files(tmp_path)) == 2


def test_an_idle_engine_sheds_conversations_to_disk_and_goes_on_from_there(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with loaded(tiny_gguf, tmp_path, n_cells=32_768) as pipe:
        first, _ = ask(pipe, TURN)
        before = process_memory(pipe.process.pid).anonymous_bytes
        pipe.send(protocol.Shed())
        wait_until(
            (process_memory(pipe.process.pid).anonymous_bytes < before * 0.9 for _ in count()),
            EXIT_WITHIN_S,
            "the cache's memory is given back",
        )
        assert len(files(tmp_path)) == 1
        _, n_cached = ask(pipe, TURN, first, "go on")
        assert n_cached > len(TURN.split())


def test_nobody_else_reads_a_conversation(tiny_gguf: Path, tmp_path: Path) -> None:
    with loaded(tiny_gguf, tmp_path) as pipe:
        ask(pipe, TURN, salt="mine")
    (file,) = files(tmp_path)
    assert file.stat().st_mode & 0o077 == 0 or file.drive
    with loaded(tiny_gguf, tmp_path) as pipe:
        assert ask(pipe, TURN, salt="yours")[1] == 0
        assert ask(pipe, TURN, salt="mine")[1] > 0
    with loaded(tiny_gguf, tmp_path, fingerprint="other") as pipe:
        assert ask(pipe, TURN, salt="mine")[1] == 0


@pytest.mark.parametrize("place", [0, 12, 5_000, -1])
def test_a_damaged_file_is_harmless_and_goes(tiny_gguf: Path, tmp_path: Path, place: int) -> None:
    with loaded(tiny_gguf, tmp_path) as pipe:
        answer, _ = ask(pipe, TURN)
    (file,) = files(tmp_path)
    damaged = bytearray(file.read_bytes())
    damaged[place] ^= 0xFF
    file.write_bytes(damaged)
    with loaded(tiny_gguf, tmp_path) as pipe:
        assert ask(pipe, TURN) == (answer, 0)
        assert not files(tmp_path)


def test_files_beyond_the_limit_go_the_least_recently_used_first(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with loaded(tiny_gguf, tmp_path) as pipe:
        ask(pipe, TURN)
    (old,) = files(tmp_path)
    limit = int(old.stat().st_size * 1.5)
    with loaded(tiny_gguf, tmp_path, kept_bytes=limit) as pipe:
        ask(pipe, "something else " * 10)
    (new,) = files(tmp_path)
    assert new != old


def test_a_folder_that_cannot_be_used_stops_nobody(tiny_gguf: Path, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    with loaded(tiny_gguf, taken) as pipe:
        assert ask(pipe, TURN)[1] == 0
