"""Embeddings through gateway, worker and encoder process, with the real MiniLM."""

import base64
import concurrent.futures
import struct

import httpx
import pytest

from tests.running_stack import MINILM, RunningStack

TEXTS = ["a cat sits on the mat", "ein Satz", "機器學習", "word " * 700]


def embed(stack: RunningStack, texts: list[str], **fields: object) -> dict[str, object]:
    reply = stack.http.post("/v1/embeddings", json={"input": texts} | fields)
    assert reply.status_code == httpx.codes.OK, reply.text
    decoded: dict[str, object] = reply.json()
    return decoded


def rows(reply: dict[str, object]) -> list[list[float]]:
    found = reply["data"]
    assert isinstance(found, list)
    assert [row["index"] for row in found] == list(range(len(found)))
    return [row["embedding"] for row in found]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_base64_and_float_carry_the_same_numbers(stack: RunningStack) -> None:
    floats = rows(embed(stack, TEXTS[:3], encoding_format="float"))
    encoded = embed(stack, TEXTS[:3], encoding_format="base64")["data"]
    assert isinstance(encoded, list)
    for vector, row in zip(floats, encoded, strict=True):
        packed = base64.b64decode(row["embedding"])
        assert list(struct.unpack(f"<{len(vector)}f", packed)) == pytest.approx(vector, abs=1e-6)


def test_the_openai_sdk_gets_unit_vectors_and_exact_usage(stack: RunningStack) -> None:
    with stack.openai() as client:
        reply = client.embeddings.create(model=MINILM, input="hello world")
    vector = reply.data[0].embedding
    assert len(vector) == 384
    assert cosine(vector, vector) == pytest.approx(1, abs=1e-4)
    assert reply.usage.prompt_tokens == 4  # [CLS] hello world [SEP]


def test_vectors_mean_something(stack: RunningStack) -> None:
    cat, kitten, tax = rows(embed(stack, ["a cat", "a kitten", "income tax law"]))
    assert cosine(cat, kitten) > cosine(cat, tax) + 0.3


def test_thirty_two_clients_never_get_anothers_vector(stack: RunningStack) -> None:
    texts = [f"unique text number {i} about topic {i * 37 % 101}" for i in range(32)]
    expected = rows(embed(stack, texts))
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        got = list(pool.map(lambda text: rows(embed(stack, [text]))[0], texts * 2))
    for i, vector in enumerate(got):
        assert cosine(vector, expected[i % 32]) > 0.9999


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"input": ""}, 400),
        ({"input": []}, 400),
        ({"input": ["x"], "model": "nope"}, 404),
        ({"input": ["x"] * 2049}, 400),
        ({"input": [1, 2, -3]}, 400),
        ({"input": [4_000_000_000]}, 400),
        ({"input": ["x"], "encoding_format": "hex"}, 400),
    ],
)
def test_bad_input_is_refused_in_shape(
    stack: RunningStack, fields: dict[str, object], status: int
) -> None:
    reply = stack.http.post("/v1/embeddings", json=fields)
    assert reply.status_code == status, reply.text
    assert set(reply.json()["error"]) >= {"message", "type", "param", "code", "request_id"}


def test_token_ids_give_the_vector_of_their_text(stack: RunningStack) -> None:
    hello_world = [7592, 2088]
    by_text, by_ids = (
        rows(embed(stack, given))[0]  # type: ignore[arg-type]
        for given in (["hello world"], [hello_world])
    )
    assert cosine(by_text, by_ids) > 0.9999


def test_reload_answers_in_the_old_servers_shape(stack: RunningStack) -> None:
    reply = stack.http.post("/v1/reload-embeddings").json()
    assert reply["refreshed"] is True
    assert MINILM in reply["models"]
    assert reply["default_model"] == MINILM
    assert reply["ttl_seconds"] == 300
