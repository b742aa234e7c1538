"""What clients of Cohere's, Jina's, TEI's and vLLM's ranking APIs get, and their mistakes."""

import asyncio

import cohere
import httpx
import pytest

from common.errors import ContextLengthExceeded
from gateway.schemas.rerank import MAX_DOCUMENTS
from protos.y26hkx.v1 import embed_pb2
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.test_bad_input import check_shape
from tests.contract.worker_scripts import EMBED, EMBED_ID

RERANK, SCORE = "/v1/rerank", "/v1/score"
ASKED = {"query": "q", "documents": ["a", "b", "c"]}


async def post(gateway: RunningGateway, path: str, **fields: object) -> httpx.Response:
    reply = await gateway.http.post(path, json=fields)
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply


async def test_both_cohere_clients_rank(gateway: RunningGateway) -> None:
    def use_sdk() -> None:
        with httpx.Client(trust_env=False) as http:
            url = gateway.base_url
            newest(cohere.ClientV2("any", base_url=url, httpx_client=http))
            older(cohere.Client("any", base_url=url, httpx_client=http))

    def newest(client: cohere.ClientV2) -> None:
        found = client.rerank(
            model=EMBED_ID, query="q", documents=["a", "b"], top_n=1, max_tokens_per_doc=9
        )
        assert [(r.index, r.relevance_score) for r in found.results] == [(1, 1.0)]
        assert found.meta is not None
        assert found.meta.tokens is not None
        assert found.meta.tokens.input_tokens == 7
        with pytest.raises(cohere.BadRequestError):
            client.rerank(model=EMBED_ID, query="q", documents=[])

    def older(client: cohere.Client) -> None:
        found = client.rerank(
            model=EMBED_ID,
            query="q",
            documents=["a", {"text": "b"}],
            rank_fields=["text"],
            return_documents=True,
        )
        assert [r.document.text for r in found.results if r.document] == ["b", "a"]

    await asyncio.to_thread(use_sdk)


async def test_a_reply_has_jinas_fields_and_says_how_and_by_what_it_ranked(
    gateway: RunningGateway,
) -> None:
    documents = [{"text": "a"}, {"text": "b"}]
    reply = await post(gateway, RERANK, query="q", documents=documents, return_documents=True)
    body = reply.json()
    assert body["id"].startswith("rerank-")
    assert (body["object"], body["model"], body["method"]) == ("list", EMBED_ID, "cross-encoder")
    assert body["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": {"text": "b"}},
        {"index": 0, "relevance_score": 0.5, "document": {"text": "a"}},
    ]
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert body["meta"]["billed_units"] == {"search_units": 1}
    assert body["system_fingerprint"] == EMBED.fingerprint
    assert reply.headers["x-model-fingerprint"] == EMBED.fingerprint
    assert "truncated" not in body
    assert "x-truncated-inputs" not in reply.headers


async def test_a_document_comes_back_with_all_that_it_carries(gateway: RunningGateway) -> None:
    documents = [
        {"text": "a"},
        {"text": "b", "id": 7, "tags": ["x"], "in": {"y": None}, "note": None},
    ]
    reply = await post(gateway, RERANK, query="q", documents=documents, return_documents=True)
    assert reply.json()["results"][0]["document"] == documents[1]


@pytest.mark.parametrize("path", [RERANK, SCORE])
@pytest.mark.parametrize(("use_activation", "raw"), [(True, False), (False, True), (None, False)])
async def test_scores_without_their_activation_are_raw(
    gateway: RunningGateway, worker: ScriptedWorker, path: str, use_activation: object, raw: bool
) -> None:
    fields = ASKED if path == RERANK else {"text_1": "q", "text_2": "a"}
    await post(gateway, path, **fields, use_activation=use_activation)
    assert worker.calls[-1].request.raw_scores is raw


async def test_documents_come_back_only_when_they_are_asked_for(gateway: RunningGateway) -> None:
    (best, *_) = (await post(gateway, RERANK, **ASKED)).json()["results"]
    assert set(best) == {"index", "relevance_score"}


@pytest.mark.parametrize(
    "path", ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking"]
)
async def test_the_route_is_where_every_client_looks_for_it(
    gateway: RunningGateway, path: str
) -> None:
    assert len((await post(gateway, path, **ASKED, top_n=50)).json()["results"]) == 3


async def test_every_path_of_it_counts_against_the_rate_limit(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], rate_limit="2/minute") as gateway:
        paths = ("/reranking", "/v1/rerank", "/v2/rerank")
        replies = [await gateway.http.post(path, json=ASKED) for path in paths]
    assert [reply.status_code for reply in replies] == [200, 200, 429]


async def test_texts_get_the_list_that_text_embeddings_inference_answers(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    fields = {"query": "q", "texts": ["a", "b"], "raw_scores": True, "truncate": True}
    direction = {"truncation_direction": "left"}
    reply = await post(gateway, "/rerank", **fields, **direction, return_text=True)
    assert reply.json() == [
        {"index": 1, "score": 1.0, "text": "b"},
        {"index": 0, "score": 0.5, "text": "a"},
    ]
    request = worker.calls[-1].request
    assert (request.raw_scores, request.truncate) == (True, embed_pb2.TRUNCATE_START)


async def test_every_field_reaches_the_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    reply = await post(
        gateway,
        RERANK,
        **ASKED,
        model=EMBED_ID,
        top_n=1,
        max_tokens_per_doc=4096,
        truncate="none",
        keep_alive="5m",
        priority=3,
    )
    assert worker.calls[-1].request == embed_pb2.RerankRequest(
        model=EMBED_ID,
        query="q",
        documents=["a", "b", "c"],
        top_n=1,
        max_document_tokens=4096,
        truncate=embed_pb2.TRUNCATE_NONE,
        keep_alive_s=300,
    )
    assert reply.headers["x-ignored-parameters"] == "priority"


async def test_cut_documents_are_named(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    worker.truncated = [0, 2]
    for path, fields in ((RERANK, ASKED), (SCORE, {"text_1": "q", "text_2": ["a", "b", "c"]})):
        reply = await post(gateway, path, **fields)
        assert reply.json()["truncated"] == [0, 2]
        assert reply.headers["x-truncated-inputs"] == "0, 2"


@pytest.mark.parametrize(
    ("text_1", "text_2", "queries", "documents"),
    [
        ("q", "a", ["q"], ["a"]),
        ("q", ["a", "b"], ["q"], ["a", "b"]),
        (["p", "q"], ["a", "b"], ["p", "q"], ["a", "b"]),
    ],
)
async def test_scores_come_pair_by_pair(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    text_1: object,
    text_2: object,
    queries: list[str],
    documents: list[str],
) -> None:
    body = (await post(gateway, SCORE, text_1=text_1, text_2=text_2)).json()
    request = worker.calls[-1].request
    assert (list(request.queries), list(request.documents)) == (queries, documents)
    assert [(row["index"], row["object"]) for row in body["data"]] == [
        (index, "score") for index in range(len(documents))
    ]
    assert body["data"][-1]["score"] == 1.0
    assert (body["object"], body["method"], body["model"]) == ("list", "cosine", EMBED_ID)
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize("first", ["text_1", "queries", "data_1"])
@pytest.mark.parametrize("second", ["text_2", "documents", "items", "data_2"])
async def test_either_side_has_every_name_that_it_has_elsewhere(
    gateway: RunningGateway, worker: ScriptedWorker, path: str, first: str, second: str
) -> None:
    await post(gateway, path, **{first: "q", second: ["a", "b"]})
    request = worker.calls[-1].request
    assert (list(request.queries), list(request.documents)) == (["q"], ["a", "b"])


@pytest.mark.parametrize(
    ("path", "fields", "workers_param", "param"),
    [
        (RERANK, ASKED, "queries[0]", "query"),
        (RERANK, ASKED, "documents[2]", "documents[2]"),
        (RERANK, {"query": "q", "texts": ["a"]}, "documents[0]", "texts[0]"),
        (SCORE, {"text_1": "q", "text_2": "a"}, "queries[0]", "text_1"),
        (SCORE, {"text_1": "q", "text_2": ["a"]}, "documents[0]", "text_2[0]"),
        (SCORE, {"text_1": ["q"], "text_2": "a"}, "queries", "text_1"),
        (SCORE, {"text_1": ["q"], "text_2": "a"}, "model", "model"),
        (SCORE, {"queries": "q", "items": ["a"]}, "documents[0]", "items[0]"),
    ],
)
async def test_a_workers_complaint_names_the_field_as_the_client_spelled_it(
    gateway: RunningGateway,
    worker: ScriptedWorker,
    path: str,
    fields: dict[str, object],
    workers_param: str,
    param: str,
) -> None:
    worker.score_error = ContextLengthExceeded("too long", param=workers_param)
    error = check_shape(await gateway.http.post(path, json=fields), 400)
    assert (error["param"], error["code"]) == (param, "context_length_exceeded")


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (RERANK, {}, "query"),
        (RERANK, {"query": "q"}, "documents"),
        (RERANK, {"query": "q", "documents": ["a"], "texts": ["a"]}, "documents"),
        (RERANK, {"query": "", "documents": ["a"]}, "query"),
        (RERANK, {"query": 5, "documents": ["a"]}, "query"),
        (RERANK, {"query": "q", "documents": []}, "documents"),
        (RERANK, {"query": "q", "documents": "a"}, "documents"),
        (RERANK, {"query": "q", "documents": ["a", 5]}, "documents[1]"),
        (RERANK, {"query": "q", "documents": [{"image": "x"}]}, "documents[0].text"),
        (RERANK, {"query": "q", "documents": ["a"] * (MAX_DOCUMENTS + 1)}, "documents"),
        (RERANK, {"query": "q", "texts": ["a"] * (MAX_DOCUMENTS + 1)}, "texts"),
        (RERANK, {"query": "q", "texts": [{"text": "a"}]}, "texts[0]"),
        (RERANK, ASKED | {"top_n": 0}, "top_n"),
        (RERANK, ASKED | {"top_n": True}, "top_n"),
        (RERANK, ASKED | {"top_n": 2**40}, "top_n"),
        (RERANK, ASKED | {"rank_fields": ["title"]}, "rank_fields[0]"),
        (RERANK, ASKED | {"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        (RERANK, ASKED | {"truncate": "middle"}, "truncate"),
        (RERANK, ASKED | {"return_documents": "yes"}, "return_documents"),
        (RERANK, ASKED | {"frobnicate": 1}, "frobnicate"),
        (SCORE, {}, "text_1"),
        (SCORE, {"text_1": "a"}, "text_2"),
        (SCORE, {"text_1": "a", "text_2": "b", "queries": "a"}, "text_1"),
        (SCORE, {"text_1": "", "text_2": "b"}, "text_1"),
        (SCORE, {"text_1": "a", "text_2": []}, "text_2"),
        (SCORE, {"text_1": "a", "text_2": ["b", ""]}, "text_2[1]"),
        (SCORE, {"text_1": "a", "text_2": ["b"] * (MAX_DOCUMENTS + 1)}, "text_2"),
        (SCORE, {"text_1": 5, "text_2": "b"}, "text_1"),
        (SCORE, {"text_1": "a", "text_2": "b", "frobnicate": 1}, "frobnicate"),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_wrong_field_is_named(
    gateway: RunningGateway, path: str, fields: dict[str, object], param: str
) -> None:
    error = check_shape(await gateway.http.post(path, json=fields), 400)
    assert error["param"] == param


async def test_a_million_wrong_documents_are_told_as_one(gateway: RunningGateway) -> None:
    body = {"query": "q", "documents": [True] * 1_000_000}
    check_shape(await gateway.http.post(RERANK, json=body), 400)
    body = {"query": "q", "documents": [{"x": 1}] * 500_000}
    check_shape(await gateway.http.post(RERANK, json=body), 400)
