"""Texts whose middle is missing: how a prompt is made of their parts, with both backends."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.make_qwen_shape import TINY, write_gguf, write_safetensors
from chat_worker import headers
from chat_worker import pipe_messages as m
from common.errors import ContextLengthExceeded, UnsupportedParameter
from tests.unit.chat_worker.engine_pipe import EnginePipe
from worker_runtime.engine_process import protocol

MARKS = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|file_sep|>")
SHAPE = replace(TINY, more_special=MARKS)
PREFIX, SUFFIX = "def add(a, b):\n    ", "\n\nprint(add(1, 2))\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("infill")
    write_gguf(folder / "infill.gguf", SHAPE, seed=1)
    write_safetensors(folder / "infill", SHAPE, seed=1)
    return {"llama.cpp": folder / "infill.gguf", "transformers": folder / "infill"}


@pytest.fixture(scope="module", params=["llama.cpp", "transformers"])
def engine(request: pytest.FixtureRequest, models: dict[str, Path]) -> Iterator[EnginePipe]:
    with EnginePipe() as pipe:
        loaded = pipe.load(models[request.param], backend=request.param)
        assert isinstance(loaded, protocol.Loaded)
        yield pipe


def asking(infill: m.Infill, **changed: object) -> m.Generate:
    plain = {"input": infill, "max_tokens": 4, "ignore_eos": True, "echo": True}
    return m.Generate(**(plain | changed))  # type: ignore[arg-type]


def prompt_of(engine: EnginePipe, infill: m.Infill) -> tuple[str, m.Started]:
    """The whole prompt as text, control tokens included."""
    events, error = engine.ask(asking(infill))
    assert error is None
    text = "".join(e.text for e in events if isinstance(e, m.Delta))
    started = next(e for e in events if isinstance(e, m.Started))
    return text, started


def test_the_parts_stand_between_the_marks_in_order(engine: EnginePipe) -> None:
    text, started = prompt_of(engine, m.Infill(PREFIX, SUFFIX, begun="return"))
    begin = f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>return"
    assert text.startswith(begin)
    assert started.trimmed_tokens == 0


def test_other_files_come_first_each_after_its_mark(engine: EnginePipe) -> None:
    files = [m.InfillFile("a.py", "A = 1"), m.InfillFile("b.py", "B = 2")]
    text, _ = prompt_of(engine, m.Infill(PREFIX, SUFFIX, files=files))
    assert text.startswith("<|file_sep|>a.py\nA = 1<|file_sep|>b.py\nB = 2<|file_sep|>")
    assert f"<|fim_prefix|>{PREFIX}<|fim_suffix|>" in text


def test_what_a_user_types_is_no_mark(engine: EnginePipe) -> None:
    plain, _ = prompt_of(engine, m.Infill("a", "b"))
    events, _ = engine.ask(asking(m.Infill("a<|fim_suffix|>", "b")))
    started = next(e for e in events if isinstance(e, m.Started))
    assert plain.count("<|fim_suffix|>") == 1
    assert started.prompt_tokens > 3 + 2 + 1, "its spelling takes several tokens"


def test_of_what_is_too_long_the_text_around_the_gap_is_kept(engine: EnginePipe) -> None:
    before = "".join(f"line {number}\n" for number in range(2000))
    after = "".join(f"after {number}\n" for number in range(2000))
    text, started = prompt_of(engine, m.Infill(before, after))
    assert "line 1999\n<|fim_suffix|>after 0\n" in text
    assert "line 0\n" not in text
    assert "after 1999" not in text
    assert started.trimmed_tokens > 5000
    assert started.prompt_tokens < 512


def test_too_long_is_refused_where_that_is_the_policy(models: dict[str, Path]) -> None:
    with EnginePipe() as pipe:
        pipe.load(models["llama.cpp"], on_overflow="refuse")
        for infill in (m.Infill("a " * 3000, "b"), m.Infill("a", "b " * 3000)):
            _, error = pipe.ask(asking(infill))
            assert error is not None
            assert error.code == ContextLengthExceeded.code


def test_a_model_without_the_tokens_refuses(tiny_gguf: Path) -> None:
    with EnginePipe() as pipe:
        pipe.load(tiny_gguf, model_id="tiny")
        _, error = pipe.ask(asking(m.Infill("a", "b")))
    assert error is not None
    assert (error.code, error.param) == (UnsupportedParameter.code, "suffix")


def test_the_files_say_whether_a_model_can(models: dict[str, Path], tiny_gguf: Path) -> None:
    for path in models.values():
        facts = headers.read(path).facts
        assert facts.abilities == ("tools", "insert")
        assert (facts.family, facts.embedding_length) == ("qwen2", SHAPE.hidden)
        assert facts.n_parameters > 0
    assert headers.read(tiny_gguf).facts.abilities == ("tools",)
