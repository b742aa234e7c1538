"""What clients send by mistake or on purpose: 4xx in shape, naming the field, never 500."""

import json
from typing import Any

import pytest

from tests.contract.running_gateway import RunningGateway

CHAT, EMBED, COMPLETE = "/v1/chat/completions", "/v1/embeddings", "/v1/completions"
HELLO = {"role": "user", "content": "hi"}
MAX_ERROR_BYTES = 4096


def check_shape(reply: Any, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert len(reply.content) < MAX_ERROR_BYTES
    error: dict[str, Any] = reply.json()["error"]
    assert {"message", "type", "param", "code", "request_id"} <= set(error)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["code"], str)
    assert error["request_id"] == reply.headers["x-request-id"]
    return error


@pytest.mark.parametrize(
    "path", [CHAT, "/v1/responses", EMBED, COMPLETE, "/v1/rerank", "/v1/score"]
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"messages": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": 1e999}',
        b'{"input": "\\ud800", "prompt": "\\ud800", "messages": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"input":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"input": 1' + b"0" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_what_is_no_json_object_is_a_400(
    gateway: RunningGateway, path: str, body: bytes
) -> None:
    check_shape(await gateway.http.post(path, content=body), 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [HELLO, {"content": "x"}]}, "messages[1].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "messages[0].content[0].text",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
                ]
            },
            "messages[0].content[0].type",
        ),
        ({"messages": [HELLO], "temperature": True}, "temperature"),
        ({"messages": [HELLO], "temperature": "1"}, "temperature"),
        ({"messages": [HELLO], "temperature": 9}, "temperature"),
        ({"messages": [HELLO], "max_tokens": True}, "max_tokens"),
        ({"messages": [HELLO], "max_tokens": 1.0}, "max_tokens"),
        ({"messages": [HELLO], "max_tokens": 0}, "max_tokens"),
        ({"messages": [HELLO], "max_tokens": -2}, "max_tokens"),
        ({"messages": [HELLO], "max_tokens": 10**19}, "max_tokens"),
        ({"messages": [HELLO], "seed": 2**70}, "seed"),
        ({"messages": [HELLO], "n": 9}, "n"),
        ({"messages": [HELLO], "stop": 5}, "stop"),
        ({"messages": [HELLO], "stop": ["a", 5]}, "stop[1]"),
        ({"messages": [HELLO], "stop": ["a"] * 17}, "stop"),
        ({"messages": [HELLO], "stop": ["a" * 257]}, "stop[0]"),
        ({"messages": [HELLO], "logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"messages": [HELLO], "logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"messages": [HELLO], "top_logprobs": 2}, "top_logprobs"),
        ({"messages": [HELLO], "stream": "yes"}, "stream"),
        ({"messages": [HELLO], "response_format": {"type": "xml"}}, "response_format.type"),
        ({"messages": [HELLO], "tool_choice": "required"}, "tool_choice"),
        ({"messages": [HELLO], "chat_template_kwargs": {"a": [1]}}, "chat_template_kwargs.a"),
        ({"messages": [HELLO], "keep_alive": "soon"}, "keep_alive"),
        ({"messages": [HELLO], "frobnicate": 1}, "frobnicate"),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_wrong_chat_field_is_named(
    gateway: RunningGateway, fields: dict[str, object], param: str
) -> None:
    error = check_shape(await gateway.http.post(CHAT, json=fields), 400)
    assert error["param"] == param


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (EMBED, {}, "input"),
        (EMBED, {"input": ""}, "input"),
        (EMBED, {"input": []}, "input"),
        (EMBED, {"input": ["a", ""]}, "input[1]"),
        (EMBED, {"input": ["a", 5]}, "input[1]"),
        (EMBED, {"input": [1, True]}, "input[1]"),
        (EMBED, {"input": [1, -2]}, "input[1]"),
        (EMBED, {"input": ["x"] * 2049}, "input"),
        (EMBED, {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        (EMBED, {"input": "a", "dimensions": 0}, "dimensions"),
        (EMBED, {"input": "a", "frobnicate": 1}, "frobnicate"),
        (COMPLETE, {}, "prompt"),
        (COMPLETE, {"prompt": 5}, "prompt"),
        (COMPLETE, {"prompt": ["a", 5]}, "prompt[1]"),
        (COMPLETE, {"prompt": [1, 2], "suffix": "b"}, "suffix"),
        (COMPLETE, {"prompt": "a", "best_of": 2}, "best_of"),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_wrong_field_elsewhere_is_named(
    gateway: RunningGateway, path: str, fields: dict[str, object], param: str
) -> None:
    error = check_shape(await gateway.http.post(path, json=fields), 400)
    assert error["param"] == param


async def test_an_unknown_parameter_has_its_own_code(gateway: RunningGateway) -> None:
    reply = await gateway.http.post(CHAT, json={"messages": [HELLO], "frobnicate": 1})
    assert check_shape(reply, 400)["code"] == "unsupported_parameter"


async def test_what_was_sent_is_hardly_echoed(gateway: RunningGateway) -> None:
    long = "z" * 500_000
    for body in (
        {"messages": [HELLO], long: 1},
        {"messages": [{"role": long, "content": long}]},
        {"messages": [HELLO], "model": long},
        {"messages": [HELLO], "logit_bias": {long: 1}},
    ):
        reply = await gateway.http.post(CHAT, json=body)
        check_shape(reply, 400)
        assert reply.text.count("z") < 400


async def test_ten_thousand_mistakes_are_told_as_one(gateway: RunningGateway) -> None:
    messages = [{"role": "user", "content": 5, f"x{i}": 1} for i in range(512)]
    check_shape(await gateway.http.post(CHAT, json={"messages": messages}), 400)
    check_shape(await gateway.http.post(EMBED, json={"input": [True] * 1_000_000}), 400)


# JSON texts that are wrong almost everywhere.
ODD_VALUES = ("-1", "1" + "0" * 400, "true", '{"a":1}')
MINIMAL: dict[str, Any] = {
    "messages": [HELLO],
    "input": "a",
    "prompt": "a",
    "query": "a",
    "documents": ["a"],
}
MINIMAL |= {"text_1": "a", "text_2": "a", "tokens": [1], "max_tokens": 1, "model": ""}


async def test_no_value_in_any_field_of_any_route_is_an_internal_error(
    gateway: RunningGateway,
) -> None:
    described = (await gateway.http.get("/openapi.json")).json()
    n_fields = 0
    for path, methods in described["paths"].items():
        body = methods.get("post", {}).get("requestBody")
        if body is None or "application/json" not in body["content"]:
            continue
        reference = body["content"]["application/json"]["schema"]["$ref"]
        fields = described["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
        minimal = {k: json.dumps(v) for k, v in MINIMAL.items() if k in fields}
        for field in fields:
            n_fields += 1
            for value in ODD_VALUES:
                members = (minimal | {field: value}).items()
                content = "{" + ",".join(f'"{name}":{text}' for name, text in members) + "}"
                reply = await gateway.http.post(path, content=content)
                assert reply.status_code in (200, 400, 404), (path, field, value, reply.text)
    assert n_fields > 150


async def test_a_compressed_body_is_refused_for_what_it_is(gateway: RunningGateway) -> None:
    reply = await gateway.http.post(EMBED, content=b"x", headers={"content-encoding": "gzip"})
    error = check_shape(reply, 415)
    assert "gzip" in error["message"]
    assert "without Content-Encoding" in error["suggestions"][0]
    assert reply.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("path", [CHAT, EMBED])
async def test_a_body_of_64_mb_is_a_413(gateway: RunningGateway, path: str) -> None:
    body = b'{"input": "' + b"x" * (64 << 20) + b'"}'
    error = check_shape(await gateway.http.post(path, content=body), 413)
    assert error["code"] == "request_too_large"


async def test_a_chunked_body_is_counted_while_it_arrives(gateway: RunningGateway) -> None:
    async def pieces() -> Any:
        for _ in range(48):
            yield b"x" * 65_536

    check_shape(await gateway.http.post(CHAT, content=pieces()), 413)


async def test_unknown_paths_and_methods_answer_in_shape(gateway: RunningGateway) -> None:
    check_shape(await gateway.http.get("/nope"), 404)
    reply = await gateway.http.get(CHAT)
    check_shape(reply, 405)
    assert reply.headers["allow"] == "POST"
    check_shape(await gateway.http.get("/v1/models/nope"), 404)
    check_shape(await gateway.http.get("/v1/models/" + "x" * 5000), 404)


async def test_the_gateway_serves_on_after_all_that(gateway: RunningGateway) -> None:
    for body in (b"{", b"[" * 100_000, json.dumps({"messages": 5}).encode()):
        await gateway.http.post(CHAT, content=body)
    reply = await gateway.http.post(CHAT, json={"messages": [HELLO], "max_tokens": 1})
    assert reply.status_code == 200
