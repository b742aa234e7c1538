"""Protobuf to structs and back: nothing is dropped, what is not offered is refused by name."""

from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import Struct
from msgspec import Raw

from chat_worker import pipe_messages as m
from chat_worker.translate import to_events, to_generate
from common.errors import InvalidRequest
from protos.y26hkx.v1 import chat_pb2 as pb
from worker_runtime.catalog import ModelEntry

ENTRY = ModelEntry(
    id="one",
    capability="chat",
    backend="llama.cpp",
    path=Path("one.gguf"),
    size_bytes=1,
    created_s=0,
    context_length=0,
    fingerprint="fp_0",
    load_spec=Raw(b""),
    engine_module="",
)


def conversation(**parts: object) -> pb.GenerateRequest:
    whole = pb.Conversation(messages=[pb.Message(role="user", content="hi")], **parts)  # type: ignore[arg-type]
    return pb.GenerateRequest(conversation=whole)


def constrained(**kind: object) -> pb.GenerateRequest:
    return pb.GenerateRequest(prompt="x", constraint=pb.Constraint(**kind))  # type: ignore[arg-type]


def test_unset_fields_take_the_defaults_and_zeros_are_kept() -> None:
    unset = to_generate(conversation())
    assert (unset.sampling.temperature, unset.sampling.top_p) == (0.7, 0.9)
    assert (unset.max_tokens, unset.n, unset.top_logprobs) == (None, 1, None)
    request = conversation()
    request.sampling.temperature = 0
    request.max_tokens = 0
    request.top_logprobs = 0
    zeros = to_generate(request)
    assert (zeros.sampling.temperature, zeros.max_tokens, zeros.top_logprobs) == (0, 0, 0)


def test_all_sampling_fields_arrive() -> None:
    request = conversation()
    request.sampling.seed = 2**63
    request.sampling.top_k = 5
    request.sampling.logit_bias[7] = -1.0
    sampling = to_generate(request).sampling
    assert (sampling.seed, sampling.top_k, sampling.logit_bias) == (2**63, 5, {7: -1.0})


def test_tools_arrive_unless_the_request_forbids_calls() -> None:
    tool = pb.Tool(name="f", description="d", parameters_json='{"type": "object"}')
    request = conversation(tools=[tool], parallel_tool_calls=False)
    arrived = to_generate(request).input
    assert isinstance(arrived, m.Conversation)
    assert arrived.tools == [m.Tool("f", "d", '{"type": "object"}')]
    assert (arrived.must_call, arrived.parallel_calls) == (False, False)
    request.conversation.tool_choice.mode = pb.ToolChoice.MODE_NONE
    forbidden = to_generate(request).input
    assert isinstance(forbidden, m.Conversation)
    assert forbidden.tools == []


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (conversation(tools=[pb.Tool(name="f"), pb.Tool(name="f")]), "tools"),
        (
            conversation(tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_REQUIRED)),
            "tool_choice",
        ),
        (
            conversation(
                tools=[pb.Tool(name="f")],
                tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_NAMED, name="g"),
            ),
            "tool_choice",
        ),
    ],
)
def test_tools_that_make_no_sense_are_refused(request_: pb.GenerateRequest, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_generate(request_)
    assert caught.value.param == param


def test_constraints_arrive_with_their_kind() -> None:
    assert to_generate(constrained()).constraint is None
    assert to_generate(constrained(json_object=True)).constraint == m.ConstraintSpec("json_object")
    for kind in ("json_schema", "regex", "grammar"):
        assert to_generate(constrained(**{kind: "x"})).constraint == m.ConstraintSpec(kind, "x")


def test_roles_and_template_arguments_are_known_ones() -> None:
    wrong_role = pb.Conversation(messages=[pb.Message(role="wizard")])
    with pytest.raises(InvalidRequest) as caught:
        to_generate(pb.GenerateRequest(conversation=wrong_role))
    assert caught.value.param == "messages[0].role"
    nested, known = Struct(), Struct()
    nested.update({"enable_thinking": {"chat_template": "{{ 1 }}"}})
    known.update({"enable_thinking": False})
    with pytest.raises(InvalidRequest):
        to_generate(conversation(template_kwargs=nested))
    accepted = to_generate(conversation(template_kwargs=known)).input
    assert isinstance(accepted, m.Conversation)
    assert accepted.template_kwargs == {"enable_thinking": False}


def test_a_request_with_neither_messages_nor_prompt_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        to_generate(pb.GenerateRequest())


def test_deltas_that_wait_together_are_packed_by_choice_and_lose_nothing() -> None:
    scored = m.TokenLogprob(m.Candidate(1, b"a", -0.5), [m.Candidate(2, b"b", -1.0)])
    batch: list[m.EngineEvent] = [
        m.Started(3, 1),
        m.Delta(0, "a", 1, [scored]),
        m.Delta(1, "x", 1),
        m.Delta(0, "b", 2, [scored]),
        m.Finished(
            choices=[m.ChoiceEnd(0, "stop", "END"), m.ChoiceEnd(1, "length")],
            prompt_tokens=3,
            completion_tokens=4,
            cached_tokens=1,
            queue_s=0,
            prefill_s=0,
            decode_s=0,
        ),
    ]
    started, first, second, finished = to_events(batch, ENTRY)
    assert started.started.model.fingerprint == "fp_0"
    assert (first.delta.text, first.delta.n_tokens, len(first.delta.logprobs)) == ("ab", 3, 2)
    assert (second.delta.choice, second.delta.text) == (1, "x")
    assert finished.finished.choices[0].stop_sequence == "END"
    assert not finished.finished.choices[1].HasField("stop_sequence")
    assert finished.finished.usage.completion_tokens == 4


def test_deltas_are_packed_only_as_far_as_their_order_is_kept() -> None:
    call = m.CallPiece(0, "call_a", "weather", "{")
    batch: list[m.EngineEvent] = [
        m.Delta(0, "", 1, reasoning="Hm"),
        m.Delta(0, "So: ", 1),
        m.Delta(0, "", 1, calls=[call]),
        m.Delta(0, "", 1, calls=[m.CallPiece(0, arguments="}")]),
        m.Delta(0, "Then", 1),
        m.Delta(0, "", 1, reasoning="Hm again"),
    ]
    first, second, third = (event.delta for event in to_events(batch, ENTRY))
    assert (first.reasoning, first.text, first.n_tokens) == ("Hm", "So: ", 4)
    assert [piece.arguments for piece in first.tool_calls] == ["{", "}"]
    assert (second.text, third.reasoning) == ("Then", "Hm again")
