"""The remote engine process against a server whose replies are scripted."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chat_worker import pipe_messages as m
from chat_worker.remote.spec import RemoteModel, RemoteSpec
from chat_worker.remote.sse import MAX_LINE_BYTES
from tests.unit.chat_worker.engine_pipe import EnginePipe
from tests.unit.chat_worker.scripted_upstream import ScriptedUpstream, said, sse
from worker_runtime.engine_process import protocol

MODULE = "chat_worker.remote.engine_process"
USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def engine(upstream: ScriptedUpstream) -> Iterator[EnginePipe]:
    with EnginePipe(MODULE) as pipe:
        assert isinstance(pipe.load_spec(spec(upstream)), protocol.Loaded)
        yield pipe


def spec(upstream: ScriptedUpstream, api_key: str = "sk-secret", **changed: Any) -> RemoteSpec:
    plain = RemoteModel(id="far", base_url=upstream.base_url, model="big", max_concurrent=2)
    return RemoteSpec(
        model=msgspec.structs.replace(plain, **changed),
        api_key=api_key,
        default_system_prompt="Be kind.",
    )


def question(**changed: Any) -> m.Generate:
    return m.Generate(**({"input": m.Conversation([m.Message("user", "hi")])} | changed))


def failure(engine: EnginePipe, request: m.Generate | None = None) -> protocol.PipeError:
    _, error = engine.ask(request or question())
    assert error is not None
    return error


def test_an_answer_is_passed_on_with_the_servers_own_counts(
    engine: EnginePipe, upstream: ScriptedUpstream
) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 5}}
    usage = {"choices": [], "usage": {**USAGE["usage"], **details}}  # type: ignore[dict-item]
    thought = said("", reasoning_content="hm")
    upstream.play([said(""), thought, said("Hel"), said("lo", "stop"), usage])
    events, error = engine.ask(question())
    assert error is None
    assert events[0] == m.Started(0, 0)
    deltas = [event for event in events if isinstance(event, m.Delta)]
    assert [(d.reasoning, d.text) for d in deltas] == [("hm", ""), ("", "Hel"), ("", "lo")]
    end = events[-1]
    assert isinstance(end, m.Finished)
    assert (end.prompt_tokens, end.completion_tokens, end.cached_tokens) == (7, 3, 5)
    assert end.choices == [m.ChoiceEnd(0, "stop")]


def test_only_what_a_request_has_set_is_sent(
    engine: EnginePipe, upstream: ScriptedUpstream
) -> None:
    upstream.play([said("x", "stop"), USAGE])
    engine.ask(question())
    path, headers, body = upstream.requests[-1]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer sk-secret"
    assert body == {
        "model": "big",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "hi"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "top_p": 0.9,
    }


def test_every_part_of_a_request_has_its_field(
    engine: EnginePipe, upstream: ScriptedUpstream
) -> None:
    upstream.play([said("x", "stop"), USAGE])
    history = [
        m.Message("system", "mine"),
        m.Message("assistant", tool_calls=[m.ToolCall("c1", "look", '{"at": 1}')]),
        m.Message("tool", "seen", tool_call_id="c1"),
    ]
    conversation = m.Conversation(
        history,
        {"enable_thinking": False},
        tools=[m.Tool("look", "Looks", '{"type": "object"}')],
        must_call=True,
        must_call_name="look",
        parallel_calls=False,
    )
    engine.ask(
        question(
            input=conversation,
            sampling=m.Sampling(temperature=0, top_k=5, seed=2**64 - 1, logit_bias={9: 0.5}),
            max_tokens=4,
            stop=["END"],
            top_logprobs=2,
            ignore_eos=True,
            constraint=m.ConstraintSpec("json_schema", '{"type": "object"}'),
        )
    )
    body = upstream.last_body
    assert [message["role"] for message in body["messages"]] == ["system", "assistant", "tool"]
    assert body["messages"][1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "look", "arguments": '{"at": 1}'},
            }
        ],
    }
    assert body["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body["parallel_tool_calls"] is False
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert (body["temperature"], body["top_k"], body["seed"]) == (0, 5, -1)
    assert (body["max_tokens"], body["stop"], body["logit_bias"]) == (4, ["END"], {"9": 0.5})
    assert (body["logprobs"], body["top_logprobs"], body["ignore_eos"]) == (True, 2, True)


def test_a_bare_prompt_goes_to_completions_and_comes_back_with_its_logprobs(
    engine: EnginePipe, upstream: ScriptedUpstream
) -> None:
    scored = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "b": -1.5}]}
    choice = {"index": 0, "text": "a", "logprobs": scored, "finish_reason": "length"}
    upstream.play([{"choices": [choice]}, USAGE])
    events, error = engine.ask(question(input=m.Prompt("once"), top_logprobs=2))
    assert error is None
    assert upstream.requests[-1][0] == "/v1/completions"
    assert upstream.last_body["prompt"] == "once"
    (delta,) = [event for event in events if isinstance(event, m.Delta)]
    assert delta.text == "a"
    chosen, other = m.Candidate(0, b"a", -0.5), m.Candidate(0, b"b", -1.5)
    assert delta.logprobs == [m.TokenLogprob(chosen, [chosen, other])]


def test_a_text_without_its_middle_goes_to_completions_with_its_suffix(
    engine: EnginePipe, upstream: ScriptedUpstream
) -> None:
    upstream.play([{"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}, USAGE])
    events, error = engine.ask(question(input=m.Infill("def f(", "return x")))
    assert error is None
    assert upstream.requests[-1][0] == "/v1/completions"
    assert (upstream.last_body["prompt"], upstream.last_body["suffix"]) == ("def f(", "return x")
    assert [event.text for event in events if isinstance(event, m.Delta)] == ["x"]


def test_tool_calls_are_numbered_anew_and_always_have_an_id(
    engine: EnginePipe, upstream: ScriptedUpstream
) -> None:
    first = {"index": 3, "id": "x1", "function": {"name": "look", "arguments": "{"}}
    second = {"index": 7, "function": {"name": "hear", "arguments": "{}"}}
    rest = {"index": 3, "id": "x1", "function": {"arguments": "}"}}
    upstream.play(
        [
            said("", tool_calls=[first]),
            said("", tool_calls=[second]),
            said("", "tool_calls", tool_calls=[rest]),
            USAGE,
        ]
    )
    events, _ = engine.ask(question())
    calls = [call for event in events if isinstance(event, m.Delta) for call in event.calls]
    assert calls[0] == m.CallPiece(0, "x1", "look", "{")
    assert (calls[1].index, calls[1].name, bool(calls[1].id)) == (1, "hear", True)
    assert calls[2] == m.CallPiece(0, arguments="}")
    assert isinstance(events[-1], m.Finished)
    assert events[-1].choices[0].reason == "tool_calls"


@pytest.mark.parametrize(
    ("status", "code", "retry_s"),
    [
        (301, "backend_failure", None),
        (401, "backend_failure", None),
        (403, "backend_failure", None),
        (404, "model_not_found", None),
        (413, "request_too_large", None),
        (429, "overloaded", 17),
        (500, "backend_failure", None),
        (503, "not_ready", 17),
        (504, "timeout", None),
    ],
)
def test_a_refusal_has_its_meaning_and_not_the_servers_words(
    engine: EnginePipe, upstream: ScriptedUpstream, status: int, code: str, retry_s: float | None
) -> None:
    upstream.play(body=b'{"error": {"message": "sk-secret of account 12"}}', status=status)
    if retry_s:
        upstream.script.headers["retry-after"] = str(retry_s)
    error = failure(engine)
    assert (error.code, error.retry_after_s) == (code, retry_s)
    assert "secret" not in error.message


@pytest.mark.parametrize("status", [400, 422])
def test_what_the_server_says_about_the_request_is_passed_on_within_bounds(
    engine: EnginePipe, upstream: ScriptedUpstream, status: int
) -> None:
    words = "top_p must\nbe smaller " + "x" * 1000
    said_so = {"message": words, "param": "top_p", "code": "context_length_exceeded"}
    upstream.play(body=sse({"error": said_so}, done=False)[6:], status=status)
    error = failure(engine)
    assert (error.code, error.param) == ("context_length_exceeded", "top_p")
    assert "top_p must be smaller" in error.message
    assert len(error.message) < 350


def test_llama_servers_words_for_too_long_an_input_are_known(
    engine: EnginePipe, upstream: ScriptedUpstream
) -> None:
    said_so = {"message": "too long", "code": 400, "type": "exceed_context_size_error"}
    upstream.play(body=sse({"error": said_so}, done=False)[6:], status=400)
    assert failure(engine).code == "context_length_exceeded"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": 5}', b'{"error": "no"}', b"\xff"])
def test_a_refusal_in_no_known_form_is_still_a_refusal(
    engine: EnginePipe, upstream: ScriptedUpstream, body: bytes
) -> None:
    upstream.play(body=body, status=400)
    assert failure(engine).code == "invalid_request"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (sse(said("half"), done=False), "worker_lost"),
        (sse(said("half")), "worker_lost"),
        (sse(said("half"), {"error": {"message": "x", "code": "worker_lost"}}), "worker_lost"),
        (sse({"error": {"message": "x", "code": "invalid_api_key"}}), "backend_failure"),
        (sse({"error": {"message": "too long", "code": 400}}), "invalid_request"),
        (sse({"error": "oops"}), "backend_failure"),
        (b"data: nonsense\n\n", "backend_failure"),
        (b'data: {"choices": [{"index": 1}]}\n\n', "backend_failure"),
        (b'data: {"usage": {"prompt_tokens": -1}}\n\n', "backend_failure"),
        (b"data: " + b"x" * (MAX_LINE_BYTES + 100_000), "backend_failure"),
    ],
)
def test_an_answer_that_goes_wrong_ends_with_an_error(
    engine: EnginePipe, upstream: ScriptedUpstream, body: bytes, code: str
) -> None:
    upstream.play(body=body)
    assert failure(engine).code == code


def test_a_server_that_does_not_stream_is_named(
    engine: EnginePipe, upstream: ScriptedUpstream
) -> None:
    upstream.play(body=b"{}", headers={"content-type": "application/json"})
    assert "stream" in failure(engine).message


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"input": m.PromptTokens([1, 2])}, "prompt"),
        ({"input": m.Prompt("x"), "echo": True}, "echo"),
        ({"input": m.Infill("x", "y", begun="z")}, "input_extra"),
        ({"constraint": m.ConstraintSpec("regex", "a+")}, "regex"),
        ({"constraint": m.ConstraintSpec("grammar", "start: a")}, "grammar"),
    ],
)
def test_what_openais_api_cannot_say_is_refused_by_name(
    engine: EnginePipe, changed: dict[str, object], param: str
) -> None:
    error = failure(engine, question(**changed))
    assert (error.code, error.param) == ("unsupported_parameter", param)


def test_tokens_and_templates_of_a_remote_model_are_refused(engine: EnginePipe) -> None:
    _, error = engine.ask(m.Tokenize("hi"))
    assert error is not None
    assert error.code == "unsupported_parameter"


def test_a_cancelled_call_hangs_up_at_once_and_leaves_its_place(
    engine: EnginePipe, upstream: ScriptedUpstream
) -> None:
    upstream.play(body=sse(said("on and on"), done=False), stay_silent=True)
    running = [engine.submit(question()) for _ in range(2)]
    spoken: set[int] = set()
    for report in engine.reports():
        if isinstance(report, protocol.Event):
            spoken.add(report.id)
        if spoken == set(running):
            break
    third = engine.submit(question())
    queued = next(r for r in engine.reports() if isinstance(r, protocol.Event) and r.id == third)
    assert m.event_decoder.decode(queued.body) == m.Queued(1)
    upstream.play([said("x", "stop"), USAGE])
    engine.send(protocol.Cancel(running[0]))
    assert upstream.hung_up.wait(5)
    (events, error) = engine.answers(third)[third]
    assert error is None
    assert isinstance(events[-1], m.Finished)
    engine.send(protocol.Cancel(running[1]))


def test_silence_ends_with_a_timeout(upstream: ScriptedUpstream) -> None:
    with EnginePipe(MODULE) as engine:
        engine.load_spec(spec(upstream, timeout_s=0.2))
        upstream.play(body=sse(said("half"), done=False), stay_silent=True)
        assert failure(engine).code == "timeout"


def test_a_server_that_has_gone_away_is_reported_as_not_ready() -> None:
    with ScriptedUpstream() as upstream, EnginePipe(MODULE) as engine:
        engine.load_spec(spec(upstream))
        upstream.__exit__(None, None, None)
        error = failure(engine)
        assert (error.code, error.retry_after_s) == ("not_ready", 5)


def test_a_server_that_is_not_there_fails_the_load_with_a_way_out() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with EnginePipe(MODULE) as engine:
            report = engine.load_spec(RemoteSpec(model=RemoteModel(id="far", base_url=url)))
    assert isinstance(report, protocol.LoadFailed)
    assert report.error.code == "BACKEND_LOAD_FAILED"
    assert "base_url" in report.error.suggestions[0]


@pytest.mark.parametrize(("status", "way_out"), [(401, "key"), (404, "/v1")])
def test_a_server_that_lists_no_models_fails_the_load(
    upstream: ScriptedUpstream, status: int, way_out: str
) -> None:
    upstream.play(models_status=status)
    with EnginePipe(MODULE) as engine:
        report = engine.load_spec(spec(upstream))
    assert isinstance(report, protocol.LoadFailed)
    assert way_out in report.error.suggestions[0]
    assert "secret" not in str(report.error)


def test_a_key_comes_from_its_file_and_a_bad_one_fails_the_load(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.play()
    (tmp_path / "key").write_text("sk-of-file\n")
    with EnginePipe(MODULE) as engine:
        engine.load_spec(spec(upstream, api_key="", api_key_file=str(tmp_path / "key")))
    assert upstream.requests[-1][1]["authorization"] == "Bearer sk-of-file"
    for bad in (b"two\nlines", b"\xff"):
        (tmp_path / "key").write_bytes(bad)
        with EnginePipe(MODULE) as engine:
            report = engine.load_spec(
                spec(upstream, api_key="", api_key_file=str(tmp_path / "key"))
            )
        assert isinstance(report, protocol.LoadFailed)
        assert "key" in report.error.message


def test_the_process_imports_no_model_library() -> None:
    code = f"import {MODULE}, sys; print(*sorted(m.split('.')[0] for m in sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert not {"numpy", "jinja2", "llama_cpp", "torch", "grpc"} & set(printed.split())
