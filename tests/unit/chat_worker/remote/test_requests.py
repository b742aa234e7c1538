"""Requests that the remote engine passes on: what the server gets, and what comes back."""

from chat_worker import pipe_messages as m
from tests.unit.chat_worker.engine_pipe import EnginePipe
from tests.unit.chat_worker.remote.remote_engine import USAGE, question
from tests.unit.chat_worker.remote.scripted_upstream import ScriptedUpstream, said, sse
from worker_runtime.engine_process import protocol


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
