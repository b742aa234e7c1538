"""Rerankers through the whole stack: small models beside the built-in one, real clients."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import httpx
import openai
import pytest

from tests.running_stack import MINILM, RunningStack
from tests.tiny_models import DIMENSION, MAX_TOKENS, write_cross_encoder, write_embedder
from tests.tiny_rerankers import write_causal

JUDGE, PROMPTED, WORDS = "judge", "prompted", "words-reranker"
QUERY = "what is the capital of france?"
DOCUMENTS = ["bananas are yellow.", "paris is the capital of france.", "who likes cheese?"]
PROMPTS = {"query": "what is ", "passage": "the "}
SHORT = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder."""
    made = tmp_path_factory.mktemp("models")
    write_cross_encoder(made / JUDGE)
    write_embedder(made / PROMPTED, prompts=PROMPTS, truncate_dim=SHORT)
    write_causal(made / WORDS)
    return made


@pytest.fixture(scope="module")
def ranking(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    log = tmp_path_factory.mktemp("stack") / "stack.log"
    settings = {"MODELS_DIR": str(folder), "EMBEDDING_DIMENSIONS": "matryoshka"}
    with RunningStack(log, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[float]:
    """The documents' scores as sentence-transformers computes them."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder / JUDGE), device="cpu", local_files_only=True)
    scores: list[float] = model.predict([(QUERY, text) for text in DOCUMENTS]).tolist()
    return scores


def post(stack: RunningStack, path: str, **fields: object) -> httpx.Response:
    reply = stack.http.post(path, json=fields)
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply


def in_order(results: list[dict[str, Any]]) -> list[float]:
    """Scores by the documents' indices; ranked they must be."""
    ranked = [result["relevance_score"] for result in results]
    assert ranked == sorted(ranked, reverse=True)
    return [r["relevance_score"] for r in sorted(results, key=lambda result: result["index"])]


def test_the_cohere_sdk_gets_the_scores_of_the_default_reranker(
    ranking: RunningStack, expected: list[float]
) -> None:
    with httpx.Client(timeout=120, trust_env=False) as http:
        client = cohere.ClientV2("unused", base_url=ranking.base_url, httpx_client=http)
        found = client.rerank(model="", query=QUERY, documents=DOCUMENTS)
    assert found.model_dump()["model"] == JUDGE
    results = [{"index": r.index, "relevance_score": r.relevance_score} for r in found.results]
    assert in_order(results) == pytest.approx(expected, abs=1e-4)


def test_an_embedding_model_ranks_by_cosine_and_says_so(ranking: RunningStack) -> None:
    documents = [{"text": text} for text in DOCUMENTS]
    fields = {"query": QUERY, "documents": documents, "return_documents": True, "top_n": 1}
    body = post(ranking, "/v1/rerank", model=MINILM, **fields).json()
    assert (body["method"], body["model"]) == ("cosine", MINILM)
    (best,) = body["results"]
    assert best["document"] == {"text": DOCUMENTS[1]}


@pytest.mark.parametrize("model", [JUDGE, MINILM])
def test_an_empty_document_is_one_result(ranking: RunningStack, model: str) -> None:
    documents = [DOCUMENTS[1], "", {"text": ""}]
    fields = {"model": model, "query": QUERY, "documents": documents}
    results = post(ranking, "/v1/rerank", **fields).json()["results"]
    assert sorted(result["index"] for result in results) == [0, 1, 2]


def test_usage_counts_the_tokens_that_the_reranker_saw(ranking: RunningStack) -> None:
    body = post(ranking, "/v1/rerank", model=JUDGE, query="paris", documents=["memory", "is"])
    # [CLS] paris [SEP] memory [SEP], twice
    assert body.json()["usage"] == {"prompt_tokens": 10, "total_tokens": 10}
    assert body.json()["method"] == "cross-encoder"


def test_a_long_document_is_cut_and_named_and_a_long_query_is_refused(
    ranking: RunningStack,
) -> None:
    long = "cheese " * MAX_TOKENS
    body = post(ranking, "/v1/rerank", model=JUDGE, query="who", documents=["is", long]).json()
    assert body["truncated"] == [1]
    refused = ranking.http.post("/v1/rerank", json={"query": long, "documents": ["is"]})
    assert refused.status_code == httpx.codes.BAD_REQUEST
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "query")


def test_scores_pair_by_pair_are_those_of_the_ranking(
    ranking: RunningStack, expected: list[float]
) -> None:
    one = post(ranking, "/v1/score", model=JUDGE, text_1=QUERY, text_2=DOCUMENTS).json()
    each = post(ranking, "/v1/score", model=JUDGE, text_1=[QUERY] * 3, text_2=DOCUMENTS).json()
    for body in (one, each):
        assert [row["score"] for row in body["data"]] == pytest.approx(expected, abs=1e-4)


def test_raw_scores_are_those_before_the_activation(
    ranking: RunningStack, expected: list[float]
) -> None:
    asked = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}
    found = {row["index"]: row["score"] for row in post(ranking, "/rerank", **asked).json()}
    activated = [1 / (1 + math.exp(-found[index])) for index in range(len(DOCUMENTS))]
    assert activated == pytest.approx(expected, abs=1e-4)


def test_a_reranker_makes_no_vectors_and_says_what_it_is_for(ranking: RunningStack) -> None:
    reply = ranking.http.post("/v1/embeddings", json={"model": JUDGE, "input": "a"})
    assert reply.status_code == httpx.codes.BAD_REQUEST
    assert reply.json()["error"]["param"] == "model"
    assert "/v1/rerank" in reply.json()["error"]["suggestions"][0]


def test_requests_that_name_no_model_get_the_vectors_of_the_embedding_model(
    ranking: RunningStack,
) -> None:
    assert post(ranking, "/v1/embeddings", input="a").json()["model"] == MINILM


def test_a_reranker_is_listed_and_unloads_like_any_model(ranking: RunningStack) -> None:
    assert ranking.models()[JUDGE]["backend"] == "cross-encoder"
    post(ranking, "/v1/models/load", model=JUDGE)
    n_encoders = len(ranking.find("embed_worker.encoder_process"))
    assert post(ranking, "/v1/models/unload", model=JUDGE).json()["state"] == "unloaded"
    assert len(ranking.find("embed_worker.encoder_process")) == n_encoders - 1


@pytest.mark.parametrize(
    ("fields", "prompt_name"),
    [
        ({"input_type": "search_query"}, "query"),
        ({"input_type": "document"}, "passage"),
        ({"prompt_name": "query"}, "query"),
        ({}, None),
    ],
)
def test_what_inputs_are_for_chooses_the_models_own_prompt(
    ranking: RunningStack, folder: Path, fields: dict[str, str], prompt_name: str | None
) -> None:
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(folder / PROMPTED), device="cpu", local_files_only=True)
    whole = library.encode(
        "paris", prompt_name=prompt_name, truncate_dim=DIMENSION, normalize_embeddings=True
    )
    reply = post(
        ranking, "/v1/embeddings", model=PROMPTED, input="paris", dimensions=DIMENSION, **fields
    )
    assert "x-ignored-parameters" not in reply.headers
    assert reply.json()["data"][0]["embedding"] == pytest.approx(whole.tolist(), abs=1e-4)


def test_a_matryoshka_model_has_the_length_that_its_authors_chose(ranking: RunningStack) -> None:
    with ranking.openai() as client:
        replies = [
            client.embeddings.create(model=PROMPTED, input="a", dimensions=dimensions)
            for dimensions in (openai.omit, 4, DIMENSION)
        ]
    assert [len(reply.data[0].embedding) for reply in replies] == [SHORT, 4, DIMENSION]


def test_other_models_vectors_are_not_shortened_where_that_is_forbidden(
    ranking: RunningStack,
) -> None:
    reply = ranking.http.post("/v1/embeddings", json={"input": "a", "dimensions": 64})
    assert reply.status_code == httpx.codes.BAD_REQUEST
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", "dimensions")
    assert post(ranking, "/v1/embeddings", input="a", dimensions=384)


def test_a_reranker_that_answers_in_words_ranks_and_is_no_chat_model(
    ranking: RunningStack,
) -> None:
    documents = [*DOCUMENTS, ""]
    reply = post(ranking, "/v1/rerank", model=WORDS, query=QUERY, documents=documents).json()
    assert reply["method"] == "cross-encoder"
    scores = in_order(reply["results"])
    assert len(scores) == len(documents)
    assert all(0 <= score <= 1 for score in scores)
    (listed,) = [m for m in ranking.http.get("/v1/models").json()["data"] if m["id"] == WORDS]
    assert listed["capability"] == "embed"
