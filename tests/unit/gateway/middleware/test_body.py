"""Any JSON at all is either taken or refused with a ServingError; nothing else comes out."""

from typing import Annotated, Literal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request

from common.error_texts import ErrorText
from common.errors import InvalidRequest, ServingError
from gateway.localize import languages
from gateway.middleware.body import parse
from gateway.schemas.base import ApiModel
from gateway.schemas.chat import ChatRequest
from gateway.schemas.completions import CompletionRequest
from gateway.schemas.embeddings import EmbeddingRequest
from gateway.schemas.keep_alive import MOST_S
from gateway.schemas.lifecycle import LoadRequest
from gateway.schemas.sampling import StreamOptions
from gateway.translate.chat_request import generate_request
from gateway.translate.completions import generate_requests
from gateway.translate.embeddings import embed_request
from gateway.translate.sampling import ChatDefaults

DEFAULTS = ChatDefaults(0.7, 0.9, 512)
FIELDS = [*ChatRequest.model_fields, *CompletionRequest.model_fields, "input", "dimensions"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["user", "assistant", "text", "auto", "function", "json_schema", "5m"])
)
NAMES = st.sampled_from(["role", "content", "type", "text", "function", "name", "1"]) | st.text(
    max_size=4
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES, inner, max_size=4)
        | st.just([{"role": "user", "content": "hi"}])
    ),
    max_leaves=8,
)


def request_with(body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5),
    st.fixed_dictionaries(
        {}, optional={"messages": st.just([{"role": "user", "content": "hi"}]), "prompt": VALUES}
    ),
)
async def test_any_object_is_taken_or_refused(
    fields: dict[str, object], more: dict[str, object]
) -> None:
    body = orjson.dumps(fields | more)
    refusals: list[ServingError] = []
    for schema in (ChatRequest, CompletionRequest, EmbeddingRequest):
        try:
            parsed = await parse(request_with(body), schema)
            if isinstance(parsed, ChatRequest):
                generate_request(parsed, DEFAULTS, "")
            elif isinstance(parsed, CompletionRequest):
                generate_requests(parsed, DEFAULTS, "")
            elif isinstance(parsed, EmbeddingRequest):
                embed_request(parsed)
        except ServingError as error:
            refusals.append(error)
    assert all(len(refusal.message) < 500 for refusal in refusals)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
async def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    with pytest.raises(ServingError):
        await parse(request_with(body), ChatRequest)


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        (None, None),
        (300, 300),
        (2.5, 2.5),
        ("300", 300),
        ("300s", 300),
        ("5m", 300),
        ("250ms", 0.25),
        ("1h30m", 5400),
        ("1h0.5s", 3600.5),
        ("999999999h", MOST_S),
        (0, 0),
        ("0", 0),
        (-1, -1),
        ("-1", -1),
        ("-5m", -300),
        (-7.5, -7.5),
    ],
)
def test_keep_alive_is_read_in_its_units(given_: float | str | None, seconds: object) -> None:
    assert LoadRequest.model_validate({"model": "m", "keep_alive": given_}).keep_alive == seconds


@pytest.mark.parametrize(
    "given_", ["", "soon", "5 m", "m", "--1", "1h-5m", "1e9", "5m3", "１", True, [], 1e12]
)
async def test_what_is_no_time_is_refused_as_keep_alive(given_: object) -> None:
    body = orjson.dumps({"model": "m", "keep_alive": given_})
    with pytest.raises(InvalidRequest) as caught:
        await parse(request_with(body), LoadRequest)
    assert caught.value.param == "keep_alive"


HELLO = [{"role": "user", "content": "hi"}]
MANY: dict[str, object] = {f"k{i}": [] for i in range(50_000)}


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        (EmbeddingRequest, {"input": [["x"] * 300] * 2048}),
        (EmbeddingRequest, {"input": [True] * 500_000}),
        (CompletionRequest, {"prompt": [["x"] * 10_000] * 16}),
        (ChatRequest, {"messages": HELLO} | MANY),
        (ChatRequest, {"messages": [HELLO[0] | MANY]}),
        (ChatRequest, {"messages": [{"role": 5, "content": 5}] * 512}),
        (ChatRequest, {"messages": HELLO, "logit_bias": MANY}),
        (ChatRequest, {"messages": HELLO, "chat_template_kwargs": MANY}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_of_mistakes_costs_a_handful_of_complaints(
    schema: type[BaseModel], fields: dict[str, object]
) -> None:
    """Each complaint is built while everybody else waits: 600,000 of them took five seconds."""
    with pytest.raises(ValidationError) as caught:
        schema.model_validate(fields)
    assert caught.value.error_count() < 50


class Bounded(ApiModel):
    """A field of each kind that pydantic bounds."""

    text: Annotated[str, Field(min_length=1, max_length=3, pattern="^a")] | None = None
    number: Annotated[int, Field(ge=1, le=9)] | None = None
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    items: Annotated[list[int], Field(min_length=1, max_length=2)] | None = None
    choice: Literal["a", "b"] = "a"
    flag: bool = False
    free: dict[str, int] | None = None
    inner: StreamOptions = StreamOptions()


@pytest.mark.parametrize(
    ("wrong", "kind", "chinese"),
    [
        ({"text": ""}, "string_too_short_one", "text：至少需要 1 個字元"),
        ({"text": "aaaa"}, "string_too_long", "text：最多 3 個字元"),
        ({"text": "b"}, "string_pattern_mismatch", "text：必須符合樣式 '^a'"),
        ({"text": 1}, "string_type", "text：必須是字串"),
        ({"number": 0}, "greater_than_equal", "number：必須大於或等於 1"),
        ({"number": 10}, "less_than_equal", "number：必須小於或等於 9"),
        ({"number": "1"}, "int_type", "number：必須是整數"),
        ({"share": 0.0}, "greater_than", "share：必須大於 0"),
        ({"share": 1.5}, "less_than", "share：必須小於 1"),
        ({"share": "x"}, "float_type", "share：必須是數字"),
        ({"items": []}, "too_short_one", "items：List 至少需要 1 項，目前有 0 項"),
        ({"items": [1, 2, 3]}, "too_long", "items：List 最多 2 項，目前有 3 項"),
        ({"items": {}}, "list_type", "items：必須是清單"),
        ({"choice": "c"}, "literal_error", "choice：必須是 'a' or 'b'"),
        ({"flag": 1}, "bool_type", "flag：必須是 true 或 false"),
        ({"free": []}, "dict_type", "free：必須是物件"),
        ({"inner": []}, "model_type", "inner：必須是物件 (StreamOptions)"),
    ],
)
async def test_usual_mistakes_are_told_as_pydantic_does_and_in_chinese(
    wrong: dict[str, object], kind: str, chinese: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await parse(request_with(orjson.dumps(wrong)), Bounded)
    with pytest.raises(ValidationError) as plain:
        Bounded.model_validate(wrong)
    said = caught.value.message
    assert isinstance(said, ErrorText)
    assert said.endswith(plain.value.errors()[0]["msg"])
    fault = said.fields["fault"]
    assert isinstance(fault, ErrorText)
    assert fault.id == f"pydantic_{kind}"
    assert languages()["zh-TW"].message(caught.value) == chinese


async def test_a_missing_field_and_our_own_complaints_are_told_in_chinese() -> None:
    chinese = languages()["zh-TW"]
    for body, said in (
        ({}, "messages：缺少此欄位"),
        ({"messages": [{"role": "user"}]}, "messages[0]：缺少 content"),
        ({"a": None, **{str(i): 1 for i in range(200)}}, "body：有 201 個欄位；最多可接受 128 個"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await parse(request_with(orjson.dumps(body)), ChatRequest)
        assert chinese.message(caught.value) == said
