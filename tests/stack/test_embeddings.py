"""Embeddings through gateway, worker and encoder process, with the real MiniLM."""

import base64
import concurrent.futures
import struct
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

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


HELLO_WORLD = [7592, 2088]
LONG = "word " * 700


def test_langchain_embeds_documents_and_queries(stack: RunningStack) -> None:
    embedder = OpenAIEmbeddings(
        model=MINILM,
        openai_api_base=f"{stack.base_url}/v1",
        openai_api_key=SecretStr("unused"),
        # Without it the texts arrive as the ids of another model's tokenizer.
        check_embedding_ctx_length=False,
    )
    documents = embedder.embed_documents(["a cat", "income tax law"])
    query = embedder.embed_query("a kitten")
    assert cosine(query, documents[0]) > cosine(query, documents[1]) + 0.3


@pytest.mark.parametrize(
    "given", ["hello world", ["hello world"], HELLO_WORLD, [HELLO_WORLD]], ids=repr
)
def test_the_openai_sdk_sends_every_kind_of_input(stack: RunningStack, given: Any) -> None:
    expected = rows(embed(stack, ["hello world"]))[0]
    with stack.openai() as client:
        reply = client.embeddings.create(model=MINILM, input=given)
    assert cosine(reply.data[0].embedding, expected) > 0.9999
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == 4


def test_mteb_and_llama_index_ask_as_they_do(stack: RunningStack) -> None:
    texts = [f"line {number}\nand one more" for number in range(100)]
    with stack.openai() as client:
        # mteb's OpenAI wrapper: floats, the model's own length, which it calls embed_dim.
        of_mteb = client.embeddings.create(
            input=texts, model=MINILM, encoding_format="float", dimensions=384
        )
        # LlamaIndex's OpenAIEmbedding: no line breaks, and what else the SDK chooses.
        flat = [text.replace("\n", " ") for text in texts]
        of_llama_index = client.embeddings.create(input=flat, model=MINILM)
    for ours, theirs in zip(of_mteb.data, of_llama_index.data, strict=True):
        # A line break is white space to this model.
        assert cosine(ours.embedding, theirs.embedding) > 0.9999


def test_fewer_dimensions_are_the_first_ones_made_unit_length(stack: RunningStack) -> None:
    (whole,) = rows(embed(stack, ["hello world"]))
    with stack.openai() as client:
        reply = client.embeddings.create(model=MINILM, input="hello world", dimensions=64)
    (short,) = (row.embedding for row in reply.data)
    norm = cosine(whole[:64], whole[:64]) ** 0.5
    assert short == pytest.approx([value / norm for value in whole[:64]], abs=1e-6)


def test_more_dimensions_than_there_are_are_refused(stack: RunningStack) -> None:
    with stack.openai() as client, pytest.raises(openai.BadRequestError, match="384") as refused:
        client.embeddings.create(model=MINILM, input="a", dimensions=385)
    assert refused.value.param == "dimensions"


def test_cut_inputs_are_named_in_body_and_header(stack: RunningStack) -> None:
    body = {"input": ["short", LONG, "short", LONG]}
    reply = stack.http.post("/v1/embeddings", json=body)
    assert reply.json()["truncated"] == [1, 3]
    assert reply.headers["x-truncated-inputs"] == "1, 3"
    assert reply.headers["x-model-fingerprint"] == reply.json()["system_fingerprint"]


def test_inputs_are_cut_to_the_tokens_that_are_asked_for(stack: RunningStack) -> None:
    reply = embed(stack, [LONG, "a"], truncate_prompt_tokens=10)
    assert reply["usage"] == {"prompt_tokens": 13, "total_tokens": 13}
    assert reply["truncated"] == [0]
    body = {"input": "a", "truncate_prompt_tokens": 257}
    refused = stack.http.post("/v1/embeddings", json=body)
    assert refused.status_code == httpx.codes.BAD_REQUEST
    assert refused.json()["error"]["param"] == "truncate_prompt_tokens"


def test_a_long_input_that_may_not_be_cut_is_refused_with_both_numbers(
    stack: RunningStack,
) -> None:
    with stack.openai() as client, pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MINILM, input=["a", LONG], extra_body={"truncate": "none"})
    assert "702 tokens; this model's maximum context length is 256" in refused.value.message
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input[1]")


def test_what_inputs_are_for_has_no_effect_on_a_model_without_prompts_and_says_so(
    stack: RunningStack,
) -> None:
    body = {"input": "a", "input_type": "search_query"}
    reply = stack.http.post("/v1/embeddings", json=body)
    assert reply.headers["x-ignored-parameters"] == "input_type"


def test_reload_answers_in_the_old_servers_shape(stack: RunningStack) -> None:
    reply = stack.http.post("/v1/reload-embeddings").json()
    assert reply["refreshed"] is True
    assert MINILM in reply["models"]
    assert reply["default_model"] == MINILM
    assert reply["ttl_seconds"] == 300
