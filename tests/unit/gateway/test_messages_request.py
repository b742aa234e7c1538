"""Any message at all is either taken or refused with a ServingError; nothing else comes out."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.requests import Request

from common.errors import ServingError
from gateway.middleware.body import parse
from gateway.schemas.messages import MessagesRequest, without_effect
from gateway.translate.messages_request import generate_request
from gateway.translate.sampling import ChatDefaults

DEFAULTS = ChatDefaults(0.7, 0.9, 512)
TYPES = ["text", "tool_use", "tool_result", "thinking", "redacted_thinking", "image", "enabled"]
WORDS = st.sampled_from([*TYPES, "auto", "tool", "custom", "user", "assistant", "a"])
NAMES = st.sampled_from(
    ["type", "role", "content", "text", "id", "name", "input", "tool_use_id", "thinking", "data"]
)
SCALARS = st.none() | st.booleans() | st.integers(-1, 2000) | st.floats(0, 1) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=6,
)
BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional={
        "text": st.text(max_size=4),
        "thinking": st.text(max_size=4),
        "signature": st.just("s"),
        "data": st.just("d"),
        "id": st.just("a"),
        "tool_use_id": st.just("a"),
        "name": st.just("f"),
        "input": st.just({"x": 1}),
        "content": VALUES,
    },
)
TURNS = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]),
        "content": st.text(max_size=4) | st.lists(BLOCKS, max_size=3) | VALUES,
    }
)


def request_with(body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(TURNS, min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(sorted(MessagesRequest.model_fields)), VALUES, max_size=2),
)
async def test_any_conversation_is_taken_or_refused(
    messages: list[object], fields: dict[str, object]
) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": messages} | fields
    refusals: list[ServingError] = []
    try:
        parsed = await parse(request_with(orjson.dumps(body)), MessagesRequest)
        assert generate_request(parsed, DEFAULTS, "").conversation.messages
        without_effect(parsed)
    except ServingError as refusal:
        refusals.append(refusal)
    assert all(len(refusal.message) < 500 for refusal in refusals)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{f"x{i}": 1 for i in range(40)}] * 128},
        {"messages": [{"role": 5, "content": 5}] * 512},
        {"messages": [{"role": "user", "content": [{"type": 5}] * 64}] * 512},
        {"system": [5] * 64},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_of_mistakes_costs_a_handful_of_complaints(fields: dict[str, object]) -> None:
    good = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(ValidationError) as caught:
        MessagesRequest.model_validate(good | fields)
    assert caught.value.error_count() < 50
