"""The gRPC face of the worker, over an engine that answers at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc.aio
import msgspec
import pytest

from common.errors import InvalidRequest, ModelNotFound
from embed_worker import pipe_messages as m
from embed_worker.encoder_choice import EncoderChoice
from embed_worker.library import CROSS_ENCODER
from embed_worker.servicer import EmbedServicer
from protos.y26hkx.v1 import embed_pb2 as pb
from worker_runtime.cache_counts import CacheCounts
from worker_runtime.catalog import Catalog, ModelEntry, Scan
from worker_runtime.clock import SystemClock
from worker_runtime.engine_process import protocol
from worker_runtime.lifecycle.leases import Lease, LoadedModel
from worker_runtime.lifecycle.load_options import LoadOption
from worker_runtime.lifecycle.manager import Models
from worker_runtime.lifecycle.snapshot import Counters
from worker_runtime.memory.need import Need
from worker_runtime.policy import LifecyclePolicy
from worker_runtime.rpc.inflight import InflightRpcs

CONTEXT = cast("grpc.aio.ServicerContext[Any, Any]", None)


def entry(model_id: str, backend: str = "sentence-transformers") -> ModelEntry:
    return ModelEntry(
        id=model_id,
        capability="embed",
        backend=backend,
        path=Path("nowhere"),
        size_bytes=1,
        created_s=1,
        context_length=8,
        fingerprint="fp_0123456789abcdef",
        load_spec=protocol.raw(m.LoadSpec(backend="x", path="y")),
        engine_module="none",
    )


def catalog(*entries: ModelEntry, default_id: str = "one") -> Catalog:
    scan = Scan(list(entries), default_id)
    made = Catalog(lambda: scan, ttl_s=60, clock=SystemClock())
    made.accept(scan)
    return made


CATALOG = catalog(entry("one"), entry("judge", CROSS_ENCODER))


class Engine:
    """Keeps the request, gives the prepared answer."""

    pid = 1

    def __init__(self, answer: m.EncoderEvent) -> None:
        self.asked: list[msgspec.Struct] = []
        self._answer = answer

    async def unary(self, body: msgspec.Struct) -> msgspec.Raw:
        self.asked.append(body)
        return protocol.raw(self._answer)


FACTS = m.Facts(
    backend="openvino",
    device="cpu",
    dimension=2,
    max_tokens=8,
    n_vocab=9,
    batch_tokens=64,
    precision="bf16, int8 weights",
    cosine=0.5,
)


class LoadedModels:
    """`Models` with every model loaded."""

    def __init__(self, engine: Engine) -> None:
        self.counts = Counters()
        self.keep_alive_s: float | None = None
        self._engine = engine

    @asynccontextmanager
    async def lease(self, model: str, *, keep_alive_s: float | None = None) -> AsyncIterator[Lease]:
        self.keep_alive_s = keep_alive_s
        option = LoadOption(CATALOG.resolve(model), Need())
        engine, facts = cast(Any, self._engine), protocol.raw(FACTS)
        loaded = LoadedModel(option, engine, facts, SystemClock(), LifecyclePolicy())
        yield loaded.lease(self.counts)


VECTORS = m.Vectors(
    vectors=bytes(16),
    dimension=2,
    token_counts=[3, 4],
    truncated=[1],
    n_cached_tokens=3,
    caches={"memory": CacheCounts(hits=1, misses=2, n_bytes=8, n_entries=1)},
)


def servicer(answer: m.EncoderEvent = VECTORS) -> tuple[EmbedServicer, LoadedModels, Engine]:
    engine = Engine(answer)
    models = LoadedModels(engine)
    encoder_choice = EncoderChoice(CATALOG, fallback_to_default=False)
    made = EmbedServicer(cast(Models, models), encoder_choice, InflightRpcs(), max_inputs=2)
    return made, models, engine


def text(value: str) -> pb.EmbedInput:
    return pb.EmbedInput(text=value)


async def test_a_request_reaches_the_encoder_with_every_field() -> None:
    made, models, engine = servicer()
    tokens = pb.EmbedInput(tokens=pb.TokenIdList(ids=[5, 6]))
    request = pb.EmbedRequest(
        inputs=[text("a"), tokens],
        dimensions=2,
        truncate=pb.TRUNCATE_NONE,
        prompt_name="query",
        input_type="document",
    )
    request.keep_alive_s = -1
    await made.Embed(request, CONTEXT)
    (asked,) = engine.asked
    assert asked == m.Embed(
        inputs=["a", [5, 6]],
        truncate="none",
        prompt_name="query",
        input_type="document",
        dimensions=2,
    )
    assert models.keep_alive_s == -1


async def test_the_reply_names_the_served_model_the_usage_and_the_cut_inputs() -> None:
    made, models, _ = servicer()
    reply = await made.Embed(pb.EmbedRequest(inputs=[text("a"), text("b")]), CONTEXT)
    assert (reply.model.id, reply.model.fingerprint) == ("one", "fp_0123456789abcdef")
    assert (reply.model.precision, reply.model.cosine) == ("bf16, int8 weights", 0.5)
    assert (list(reply.token_counts), list(reply.truncated)) == ([3, 4], [1])
    assert (reply.usage.prompt_tokens, reply.usage.cached_tokens) == (7, 3)
    assert reply.vectors == bytes(16)
    assert (models.counts.prompt_tokens, models.counts.cached_tokens) == (7, 3)


async def test_what_caches_did_is_summed_and_what_they_hold_is_the_latest() -> None:
    made, models, _ = servicer()
    for _ in range(2):
        await made.Embed(pb.EmbedRequest(inputs=[text("a")]), CONTEXT)
    counts = CacheCounts(hits=2, misses=4, n_bytes=8, n_entries=1)
    assert models.counts.caches == {"memory": counts}


@pytest.mark.parametrize("count", [0, 3])
async def test_too_many_or_no_inputs_are_refused_naming_the_limit(count: int) -> None:
    made, _, engine = servicer()
    with pytest.raises(InvalidRequest, match="1 to 2") as refused:
        await made.Embed(pb.EmbedRequest(inputs=[text("a")] * count), CONTEXT)
    assert refused.value.param == "input"
    assert engine.asked == []


async def test_an_input_of_no_kind_is_refused() -> None:
    made, _, _ = servicer()
    with pytest.raises(InvalidRequest) as refused:
        await made.Embed(pb.EmbedRequest(inputs=[text("a"), pb.EmbedInput()]), CONTEXT)
    assert refused.value.param == "input[1]"


SCORES = m.Scores(scores=[0.25, 0.5], method="cosine", n_tokens=9, truncated=[1])


async def test_ranked_documents_come_best_first_with_the_method() -> None:
    made, models, engine = servicer(SCORES)
    request = pb.RerankRequest(
        query="q", documents=["a", "b"], max_document_tokens=3, raw_scores=True, keep_alive_s=5
    )
    reply = await made.Rerank(request, CONTEXT)
    assert [(r.index, r.score) for r in reply.results] == [(1, 0.5), (0, 0.25)]
    assert (reply.method, reply.usage.prompt_tokens) == ("cosine", 9)
    assert (reply.model.id, list(reply.truncated)) == ("judge", [1])
    assert models.keep_alive_s == 5
    assert engine.asked == [
        m.Score(queries=["q"], documents=["a", "b"], max_document_tokens=3, raw_scores=True)
    ]


@pytest.mark.parametrize(("top_n", "n_results"), [(1, 1), (5, 2)])
async def test_no_more_results_come_than_were_asked_for(top_n: int, n_results: int) -> None:
    made, _, _ = servicer(SCORES)
    request = pb.RerankRequest(query="q", documents=["a", "b"], top_n=top_n)
    reply = await made.Rerank(request, CONTEXT)
    assert len(reply.results) == n_results


async def test_scores_come_in_the_order_of_their_pairs() -> None:
    made, _, engine = servicer(SCORES)
    request = pb.ScoreRequest(model="one", queries=["p", "q"], documents=["a", "b"])
    reply = await made.Score(request, CONTEXT)
    assert (list(reply.scores), reply.model.id) == ([0.25, 0.5], "one")
    assert engine.asked == [m.Score(queries=["p", "q"], documents=["a", "b"])]


async def test_a_ranking_of_no_results_is_refused() -> None:
    made, _, _ = servicer()
    request = pb.RerankRequest(query="q", documents=["a"], top_n=0)
    with pytest.raises(InvalidRequest) as refused:
        await made.Rerank(request, CONTEXT)
    assert refused.value.param == "top_n"


async def test_texts_are_tokenized() -> None:
    made, _, _ = servicer(m.TokenLists([[1, 2], [3]]))
    reply = await made.Tokenize(pb.TokenizeRequest(texts=["a", "b"]), CONTEXT)
    assert [list(tokens.ids) for tokens in reply.tokens] == [[1, 2], [3]]


async def test_an_unknown_model_is_not_found() -> None:
    made, _, _ = servicer()
    with pytest.raises(ModelNotFound):
        await made.Embed(pb.EmbedRequest(model="nope", inputs=[text("a")]), CONTEXT)


async def test_a_cross_encoder_makes_no_vectors() -> None:
    made, _, engine = servicer()
    with pytest.raises(InvalidRequest, match="makes no vectors") as refused:
        await made.Embed(pb.EmbedRequest(model="judge", inputs=[text("a")]), CONTEXT)
    assert refused.value.param == "model"
    assert engine.asked == []


def test_an_unknown_model_may_mean_the_default_as_in_the_earlier_server() -> None:
    encoder_choice = EncoderChoice(CATALOG, fallback_to_default=True)
    assert (encoder_choice.embedder("nope"), encoder_choice.reranker("nope")) == ("one", "judge")


def test_without_a_cross_encoder_the_default_embedding_model_ranks() -> None:
    broken = msgspec.structs.replace(entry("judge", CROSS_ENCODER), broken="no weights")
    encoder_choice = EncoderChoice(catalog(broken, entry("one")), fallback_to_default=False)
    assert encoder_choice.reranker("") == "one"
