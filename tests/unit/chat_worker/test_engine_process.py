"""The engine process as the worker sees it: messages on a pipe, a tiny model behind them."""

import itertools
import math
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from chat_worker import pipe_messages as m
from tests.running_stack import wait_until
from tests.unit.chat_worker.engine_pipe import EnginePipe
from worker_runtime.engine_process import protocol

GREEDY = m.Sampling(temperature=0)


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[EnginePipe]:
    with EnginePipe() as pipe:
        assert isinstance(pipe.load(tiny_gguf), protocol.Loaded)
        yield pipe


def question(text: str, **changed: object) -> m.Generate:
    plain = {
        "input": m.Conversation([m.Message("user", text)]),
        "sampling": GREEDY,
        "max_tokens": 12,
        "ignore_eos": True,
    }
    return m.Generate(**(plain | changed))  # type: ignore[arg-type]


def text_of(events: list[m.EngineEvent], choice: int = 0) -> str:
    return "".join(e.text for e in events if isinstance(e, m.Delta) and e.choice == choice)


def finished(events: list[m.EngineEvent]) -> m.Finished:
    assert isinstance(events[-1], m.Finished)
    return events[-1]


def started(events: list[m.EngineEvent]) -> m.Started:
    return next(e for e in events if isinstance(e, m.Started))


def test_a_generation_starts_streams_and_finishes_with_exact_usage(engine: EnginePipe) -> None:
    events, error = engine.ask(question("hello"))
    assert error is None
    assert started(events).prompt_tokens > 10
    assert sum(e.n_tokens for e in events if isinstance(e, m.Delta)) <= 12
    end = finished(events)
    assert (end.completion_tokens, end.prompt_tokens) == (12, started(events).prompt_tokens)
    assert end.choices == [m.ChoiceEnd(0, "length")]


def test_the_second_turn_finds_the_first_in_the_cache_and_says_the_same_as_without(
    engine: EnginePipe,
) -> None:
    first, _ = engine.ask(question("tell me a long story " * 8))
    turns = [
        m.Message("user", "tell me a long story " * 8),
        m.Message("assistant", text_of(first)),
        m.Message("user", "go on"),
    ]
    again = question("", input=m.Conversation(turns))
    cached, _ = engine.ask(again)
    fresh, _ = engine.ask(question("", input=m.Conversation(turns), cache_salt="other"))
    assert started(cached).cached_tokens > started(first).prompt_tokens * 0.9
    assert started(fresh).cached_tokens == 0
    assert text_of(cached) == text_of(fresh)


def test_requests_that_run_together_get_the_text_they_get_alone(engine: EnginePipe) -> None:
    texts = [f"question {i} " * (i + 1) for i in range(8)]
    alone = [text_of(engine.ask(question(text))[0]) for text in texts]
    calls = [engine.submit(question(text, cache_salt="together")) for text in texts]
    answers = engine.answers(*calls)
    assert [text_of(answers[call][0]) for call in calls] == alone


def test_choices_have_their_own_draws_and_a_seed_repeats_them(engine: EnginePipe) -> None:
    drawn = question("hi", n=3, sampling=m.Sampling(temperature=1.5, top_p=1, seed=42))
    first, _ = engine.ask(drawn)
    second, _ = engine.ask(drawn)
    texts = [text_of(first, choice) for choice in range(3)]
    assert len(set(texts)) == 3
    assert texts == [text_of(second, choice) for choice in range(3)]
    assert finished(first).completion_tokens == 36
    assert finished(first).prompt_tokens == started(first).prompt_tokens


def test_a_stop_string_across_tokens_ends_the_text_before_it(engine: EnginePipe) -> None:
    whole = text_of(engine.ask(question("hello", max_tokens=20))[0])
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    events, _ = engine.ask(question("hello", max_tokens=20, stop=[stop]))
    assert text_of(events) == whole[: whole.index(stop)]
    assert finished(events).choices == [m.ChoiceEnd(0, "stop", stop)]


def test_logprobs_come_with_every_token(engine: EnginePipe) -> None:
    events, _ = engine.ask(question("hello", top_logprobs=3))
    scored = [one for e in events if isinstance(e, m.Delta) for one in e.logprobs]
    assert len(scored) == 12
    for one in scored:
        assert len(one.top) == 3
        assert one.chosen == one.top[0]


def test_echo_repeats_the_prompt_and_scores_it(engine: EnginePipe) -> None:
    prompt = m.Prompt("hello there my friend")
    n_prompt = len(tokens_of(engine, prompt.text))
    events, _ = engine.ask(question("", input=prompt, echo=True, top_logprobs=0, max_tokens=0))
    assert text_of(events) == prompt.text
    scored = [one for e in events if isinstance(e, m.Delta) for one in e.logprobs]
    assert len(scored) == n_prompt
    assert b"".join(one.chosen.text for one in scored).decode() == prompt.text
    assert [math.isnan(one.chosen.logprob) for one in scored] == [True] + [False] * (n_prompt - 1)
    assert isinstance(events[0], m.Started)


def tokens_of(engine: EnginePipe, text: str) -> list[int]:
    events, error = engine.ask(m.Tokenize(text))
    assert error is None
    (tokens,) = events
    assert isinstance(tokens, m.Tokens)
    return tokens.ids


def test_tokenizing_and_back_gives_the_text(engine: EnginePipe) -> None:
    text = "héllo 界 <|im_end|> x"
    events, _ = engine.ask(m.Detokenize(tokens_of(engine, text)))
    assert events == [m.RenderedText(text)]


def test_a_long_conversation_is_trimmed_and_says_so(engine: EnginePipe) -> None:
    turns = [m.Message("user" if i % 2 == 0 else "assistant", f"turn {i} " * 10) for i in range(31)]
    events, error = engine.ask(question("", input=m.Conversation(turns)))
    assert error is None
    assert started(events).trimmed_messages > 0
    assert started(events).trimmed_tokens > 0
    assert started(events).prompt_tokens <= 500


def test_more_requests_than_run_together_are_told_their_place(engine: EnginePipe) -> None:
    calls = [engine.submit(question(f"{i}", max_tokens=60)) for i in range(8)]
    answers = engine.answers(*calls)
    assert all(error is None for _, error in answers.values())
    assert any(isinstance(e, m.Queued) for events, _ in answers.values() for e in events)


def test_cancelled_calls_say_nothing_more_and_the_others_go_on(engine: EnginePipe) -> None:
    calls = [engine.submit(question(f"{i}", max_tokens=300)) for i in range(8)]
    for call in calls[1:]:
        engine.send(protocol.Cancel(call))
    answers = engine.answers(calls[0])
    assert finished(answers[calls[0]][0]).completion_tokens == 300
    # What was cancelled has freed its places: the next request starts at once.
    events, error = engine.ask(question("next"))
    assert error is None
    assert not any(isinstance(e, m.Queued) for e in events)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (question("x", n=0), "n"),
        (question("x", n=9), "n"),
        (question("x", sampling=m.Sampling(temperature=-1)), "temperature"),
        (question("x", sampling=m.Sampling(temperature=2.1)), "temperature"),
        (question("x", sampling=m.Sampling(top_k=-1)), "top_k"),
        (question("x", max_tokens=2**20 + 1), "max_tokens"),
        (question("x", sampling=m.Sampling(top_p=float("nan"))), "top_p"),
        (question("x", sampling=m.Sampling(logit_bias={99_999: 1})), "logit_bias"),
        (question("x", top_logprobs=21), "top_logprobs"),
        (question("x", input=m.Conversation([])), "messages"),
        (question("x", input=m.PromptTokens([99_999])), "prompt"),
        (question("x", input=m.PromptTokens([])), "prompt"),
        (m.Detokenize([-1]), "tokens"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_name(
    engine: EnginePipe, request_: m.Generate | m.Detokenize, param: str
) -> None:
    events, error = engine.ask(request_)
    assert events == []
    assert error is not None
    assert (error.code, error.param) == ("invalid_request", param)


def test_an_overlong_request_is_refused_if_so_set(tiny_gguf: Path) -> None:
    with EnginePipe() as pipe:
        assert isinstance(pipe.load(tiny_gguf, on_overflow="refuse"), protocol.Loaded)
        _, error = pipe.ask(question("word " * 2000))
    assert error is not None
    assert error.code == "context_length_exceeded"
    assert error.metadata["max_input_tokens"] == "500"


def test_the_default_system_prompt_and_seed_are_used_where_a_request_has_none(
    tiny_gguf: Path,
) -> None:
    with EnginePipe() as pipe:
        pipe.load(tiny_gguf, default_system_prompt="be a pirate", global_seed=7)
        conversation = m.Conversation([m.Message("user", "hi")])
        (rendered,), _ = pipe.ask(m.ApplyTemplate(conversation))
        drawn = question("hi", sampling=m.Sampling(temperature=1.2, top_p=1))
        texts = {text_of(pipe.ask(drawn)[0]) for _ in range(3)}
    assert isinstance(rendered, m.RenderedText)
    assert "be a pirate" in rendered.text
    assert len(texts) == 1


def test_a_truncated_file_is_reported_as_damaged(tiny_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[: tiny_gguf.stat().st_size // 2])
    with EnginePipe() as pipe:
        report = pipe.load(cut)
    assert isinstance(report, protocol.LoadFailed)
    assert report.error.code == "BACKEND_LOAD_FAILED"
    assert "damaged" in report.error.message


def test_a_file_that_is_no_model_and_one_that_is_gone_are_reported(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF" + bytes(1000))
    for path in (other, tmp_path / "gone.gguf"):
        with EnginePipe() as pipe:
            report = pipe.load(path)
        assert isinstance(report, protocol.LoadFailed)
        assert report.error.code == "BACKEND_LOAD_FAILED"


def test_a_backend_that_this_version_lacks_is_named(tmp_path: Path) -> None:
    with EnginePipe() as pipe:
        report = pipe.load(tmp_path, backend="abacus")
    assert isinstance(report, protocol.LoadFailed)
    assert "abacus" in report.error.message


def test_the_process_ends_when_its_worker_is_gone(tiny_gguf: Path) -> None:
    with EnginePipe() as pipe:
        pipe.load(tiny_gguf)
        pipe.submit(question("x", max_tokens=400))
        assert pipe.process.stdin is not None
        pipe.process.stdin.close()
        assert pipe.process.stdout is not None
        pipe.process.stdout.read()
        assert pipe.process.wait(20) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_process_closes_its_pipe(tiny_gguf: Path) -> None:
    with EnginePipe() as pipe:
        pipe.load(tiny_gguf)
        call = pipe.submit(question("x", max_tokens=400))
        os.kill(pipe.process.pid, signal.SIGKILL)
        assert pipe.answers(call) == {}


def test_a_load_leaves_no_computing_threads_behind(tiny_gguf: Path) -> None:
    """Beside those of the loop they would be more than there are cores, and then OpenMP's threads
    sleep at every barrier instead of waiting actively."""

    with EnginePipe() as one, EnginePipe() as four:
        for pipe, n_threads in ((one, 1), (four, 4)):
            assert isinstance(pipe.load(tiny_gguf, n_threads=n_threads), protocol.Loaded)
        counts = [psutil.Process(pipe.process.pid).num_threads for pipe in (one, four)]
        same = (counts[0]() == counts[1]() for _ in itertools.count())
        wait_until(same, 5, "the thread that loaded ended with its team")
