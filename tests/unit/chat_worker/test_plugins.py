"""Third parties' backends in their engine process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chat_worker import pipe_messages as m
from tests.installed_backend import ECHO, install
from tests.unit.chat_worker.engine_pipe import EnginePipe
from worker_runtime.engine_process import protocol

MODULE = "chat_worker.plugins.engine_process"
ROOT = Path(__file__).resolve().parents[3]
ODD = Path(__file__).parent / "odd_backends.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, ECHO, echo="EchoBackend")
    install(
        folder,
        ODD,
        whole="Whole",
        endless="Endless",
        failing="Failing",
        mistyped="Mistyped",
        unloadable="Unloadable",
        incomplete="Incomplete",
        missing="Missing",
    )
    return folder


@contextmanager
def process(site: Path) -> Iterator[EnginePipe]:
    with EnginePipe(MODULE, {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}) as pipe:
        yield pipe


@contextmanager
def loaded(site: Path, backend: str, **changed: Any) -> Iterator[EnginePipe]:
    with process(site) as pipe:
        report = pipe.load(Path("none"), backend=backend, model_id="parrot", **changed)
        assert isinstance(report, protocol.Loaded)
        yield pipe


def question(text: str = "one two three", **changed: Any) -> m.Generate:
    return m.Generate(**({"input": m.Conversation([m.Message("user", text)])} | changed))


def text_of(events: list[m.EngineEvent], choice: int = 0) -> str:
    return "".join(e.text for e in events if isinstance(e, m.Delta) and e.choice == choice)


def finished(events: list[m.EngineEvent]) -> m.Finished:
    assert isinstance(events[-1], m.Finished)
    return events[-1]


def test_a_streaming_backend_answers_with_its_own_counts(site: Path) -> None:
    with loaded(site, "echo") as engine:
        events, error = engine.ask(question(n=2))
    assert error is None
    assert text_of(events, 0) == text_of(events, 1) == "parrot: one two three"
    assert (finished(events).prompt_tokens, finished(events).completion_tokens) == (3, 8)
    assert finished(events).choices == [m.ChoiceEnd(0, "stop"), m.ChoiceEnd(1, "stop")]


def test_stop_strings_are_applied_and_its_finish_reason_is_told(site: Path) -> None:
    with loaded(site, "echo") as engine:
        events, _ = engine.ask(question(stop=["e tw"]))
        assert text_of(events) == "parrot: on"
        assert finished(events).choices == [m.ChoiceEnd(0, "stop", "e tw")]
        events, _ = engine.ask(question(max_tokens=2))
        assert text_of(events) == "parrot: one"
        assert finished(events).choices == [m.ChoiceEnd(0, "length")]


def test_a_backend_that_does_not_stream_gets_what_was_set_and_may_count_nothing(
    site: Path,
) -> None:
    with loaded(site, "whole", default_system_prompt="Be kind.", global_seed=3) as engine:
        events, _ = engine.ask(question(sampling=m.Sampling(temperature=0, top_k=4), max_tokens=9))
    asked = [("max_tokens", 9), ("seed", 3), ("temperature", 0.0), ("top_k", 4), ("top_p", 0.9)]
    assert text_of(events) == f"['system', 'user'] {asked}"
    assert finished(events).completion_tokens == 0


def test_a_call_is_stopped_between_two_pieces_and_the_next_one_runs(site: Path) -> None:
    with loaded(site, "endless") as engine:
        first = engine.submit(question())
        next(r for r in engine.reports() if isinstance(r, protocol.Event))
        second = engine.submit(question(stop=["on on"]))
        queued = next(
            r for r in engine.reports() if isinstance(r, protocol.Event) and r.id == second
        )
        assert m.event_decoder.decode(queued.body) == m.Queued(1)
        engine.send(protocol.Cancel(first))
        events, error = engine.answers(second)[second]
        assert error is None
        assert finished(events).choices[0].stop_sequence == "on on"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("raise", "backend_failure"),
        ("nothing", "backend_failure"),
        ("surrogate", "backend_failure"),
        ("refuse", "invalid_request"),
    ],
)
def test_a_failing_call_ends_with_an_error_and_the_next_one_runs(
    site: Path, text: str, code: str
) -> None:
    with loaded(site, "failing") as engine:
        _, error = engine.ask(question(text))
        assert error is not None
        assert error.code == code
        assert "secret" not in error.message
        events, error = engine.ask(question("well"))
        assert error is None
        assert text_of(events) == "fine"


def test_pieces_that_are_no_text_never_leave_the_process(site: Path) -> None:
    with loaded(site, "mistyped") as engine:
        events, error = engine.ask(question())
    assert events == []
    assert error is not None
    assert error.code == "backend_failure"


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"input": m.Prompt("x")}, "prompt"),
        ({"input": m.Conversation([m.Message("user", "x")], tools=[m.Tool("t")])}, "tools"),
        ({"constraint": m.ConstraintSpec("json_object")}, "response_format"),
        ({"top_logprobs": 0}, "logprobs"),
        ({"input": m.Conversation([])}, "messages"),
    ],
)
def test_what_the_protocol_does_not_have_is_refused_by_name(
    site: Path, changed: dict[str, Any], param: str
) -> None:
    with loaded(site, "echo") as engine:
        _, error = engine.ask(question(**changed))
    assert error is not None
    assert error.param == param


@pytest.mark.parametrize("backend", ["unloadable", "incomplete", "missing", "nobody"])
def test_a_backend_that_cannot_be_loaded_says_so_without_its_words(
    site: Path, backend: str
) -> None:
    with process(site) as pipe:
        report = pipe.load(Path("none"), backend=backend)
    assert isinstance(report, protocol.LoadFailed)
    assert report.error.code == "BACKEND_LOAD_FAILED"
    assert "secret" not in report.error.message
