"""What the remote engine makes of refusals, of wrong answers, and of what cannot be asked."""

import pytest

from chat_worker import pipe_messages as m
from chat_worker.remote.sse import MAX_LINE_BYTES
from tests.unit.chat_worker.engine_pipe import EnginePipe
from tests.unit.chat_worker.remote.remote_engine import failure, question
from tests.unit.chat_worker.remote.scripted_upstream import ScriptedUpstream, said, sse


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
