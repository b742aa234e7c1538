"""The encoder process with the built-in model, over its real pipe: on torch and on OpenVINO."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from common.errors import BackendLoadFailed, ContextLengthExceeded, InvalidRequest, WorkerLost
from embed_worker import pipe_messages as m
from embed_worker.library import OPENVINO, TORCH
from embed_worker.memory_estimate import load_options
from tests.unit.embed_worker.running_encoder import BOUND_S, built_in, loaded, started
from worker_runtime.engine_process import protocol
from worker_runtime.engine_process.client import EngineClient

ATOL = 1e-5
WORDS = ["the", "model", "記憶體", "reads", "café", "memory,", "12345", "what's", "next?", "模型"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(170)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[TORCH, OPENVINO])
async def engine(
    request: pytest.FixtureRequest, converted_dir: Path
) -> AsyncIterator[EngineClient]:
    chosen = {"backend": request.param, "precision": "f32", "converted_dir": converted_dir}
    process = await loaded(built_in(**chosen))
    yield process
    await process.stop(5)


class Reference:
    """What sentence-transformers itself says."""

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(built_in().path), device="cpu", local_files_only=True)

    def vectors(self, texts: list[str]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._model.encode(texts, batch_size=32)
        return found

    def token_counts(self, texts: list[str]) -> list[int]:
        mask = self._model.preprocess(texts)["attention_mask"]
        return [int(count) for count in mask.sum(dim=1)]

    def ids(self, text: str) -> list[int]:
        found: list[int] = self._model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def mixed_texts(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [
        f"{seed} {index} " + " ".join(chance.choices(WORDS, k=chance.choice((1, 3, 9, 30, 90))))
        for index in range(count)
    ]


async def embed(engine: EngineClient, request: m.Embed) -> m.Vectors:
    async with asyncio.timeout(BOUND_S):
        answer = m.event_decoder.decode(await engine.unary(request))
    assert isinstance(answer, m.Vectors)
    return answer


async def score(engine: EngineClient, request: m.Score) -> m.Scores:
    async with asyncio.timeout(BOUND_S):
        answer = m.event_decoder.decode(await engine.unary(request))
    assert isinstance(answer, m.Scores)
    return answer


async def tokenized(engine: EngineClient, text: str) -> m.TokenLists:
    async with asyncio.timeout(BOUND_S):
        answer = m.event_decoder.decode(await engine.unary(m.Tokenize([text])))
    assert isinstance(answer, m.TokenLists)
    return answer


def rows(answer: m.Vectors) -> NDArray[np.float32]:
    return np.frombuffer(answer.vectors, dtype="<f4").reshape(-1, answer.dimension)


async def test_vectors_and_usage_equal_those_of_sentence_transformers(
    engine: EngineClient, reference: Reference
) -> None:
    texts = [*mixed_texts(40, seed=1), " ", "\n", "ﬁ ½ 🙂", "a" * 3_000, "word " * 600]
    answer = await embed(engine, m.Embed(inputs=list(texts)))
    np.testing.assert_allclose(rows(answer), reference.vectors(texts), atol=ATOL)
    assert answer.token_counts == reference.token_counts(texts)


async def test_calls_that_cross_each_get_their_own_vectors(
    engine: EngineClient, reference: Reference
) -> None:
    calls = [mixed_texts(1 + seed % 7, seed) for seed in range(100, 132)]
    answers = await asyncio.gather(*(embed(engine, m.Embed(inputs=list(texts))) for texts in calls))
    expected = reference.vectors([text for texts in calls for text in texts])
    np.testing.assert_allclose(np.concatenate([rows(a) for a in answers]), expected, atol=ATOL)


async def test_a_text_has_the_same_vector_alone_and_among_others(engine: EngineClient) -> None:
    texts = mixed_texts(30, seed=7)
    together = rows(await embed(engine, m.Embed(inputs=list(texts))))
    backwards = rows(await embed(engine, m.Embed(inputs=list(reversed(texts)))))
    alone = rows(await embed(engine, m.Embed(inputs=[texts[3]])))
    np.testing.assert_allclose(together, backwards[::-1], atol=ATOL)
    np.testing.assert_allclose(together[3], alone[0], atol=ATOL)


async def test_token_ids_give_the_vector_of_their_text(
    engine: EngineClient, reference: Reference
) -> None:
    text = "token ids are taken as they are"
    ids = reference.ids(text)
    (framed,) = (await tokenized(engine, text)).ids
    answer = await embed(engine, m.Embed(inputs=[ids, framed, text]))
    assert len(framed) == len(ids) + 2
    np.testing.assert_array_equal(rows(answer)[:2], rows(answer)[[2, 2]])
    assert answer.token_counts == [len(framed)] * 3


async def test_token_ids_outside_the_vocabulary_are_refused(engine: EngineClient) -> None:
    with pytest.raises(InvalidRequest, match="30522") as refused:
        await embed(engine, m.Embed(inputs=["fine", [7592, 30_522]]))
    assert refused.value.param == "input[1]"


async def test_special_tokens_that_a_user_types_are_plain_text(engine: EngineClient) -> None:
    ((first, *inside, last),) = (await tokenized(engine, "[SEP][CLS]")).ids
    assert (first, last) == (101, 102)
    assert not {101, 102} & set(inside)


@pytest.mark.parametrize("given", [[], [""], ["fine", ""], [[]]])
async def test_empty_input_is_refused(engine: EngineClient, given: list[str | list[int]]) -> None:
    with pytest.raises(InvalidRequest, match=r"empty|no input"):
        await embed(engine, m.Embed(inputs=given))


async def test_a_long_text_is_cut_at_its_end_and_named(
    engine: EngineClient, reference: Reference
) -> None:
    text = " ".join(str(number) for number in range(400))
    answer = await embed(engine, m.Embed(inputs=["short", text]))
    assert answer.truncated == [1]
    assert answer.token_counts[1] == 256
    np.testing.assert_allclose(rows(answer)[1], reference.vectors([text])[0], atol=ATOL)


async def test_a_long_text_cut_at_its_start_keeps_its_newest_tokens(
    engine: EngineClient, reference: Reference
) -> None:
    text = " ".join(str(number) for number in range(400))
    answer = await embed(engine, m.Embed(inputs=[text], truncate="start"))
    tail = await embed(engine, m.Embed(inputs=[reference.ids(text)[-254:]]))
    assert answer.truncated == [0]
    np.testing.assert_allclose(rows(answer), rows(tail), atol=ATOL)


async def test_a_long_text_that_may_not_be_cut_is_refused_with_both_numbers(
    engine: EngineClient,
) -> None:
    with pytest.raises(ContextLengthExceeded, match="402 tokens; this model") as refused:
        await embed(engine, m.Embed(inputs=["short", "a " * 400], truncate="none"))
    assert refused.value.param == "input[1]"


async def test_fewer_dimensions_are_the_first_ones_made_unit_length(engine: EngineClient) -> None:
    whole = rows(await embed(engine, m.Embed(inputs=["one", "two"])))
    short = await embed(engine, m.Embed(inputs=["one", "two"], dimensions=64))
    expected = whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True)
    assert short.dimension == 64
    np.testing.assert_allclose(rows(short), expected, atol=1e-6)


@pytest.mark.parametrize("dimensions", [0, 385])
async def test_dimensions_that_the_model_has_not_are_refused(
    engine: EngineClient, dimensions: int
) -> None:
    with pytest.raises(InvalidRequest, match="384") as refused:
        await embed(engine, m.Embed(inputs=["one"], dimensions=dimensions))
    assert refused.value.param == "dimensions"


async def test_an_unknown_prompt_is_refused(engine: EngineClient) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await embed(engine, m.Embed(inputs=["one"], prompt_name="no-such-prompt"))
    assert refused.value.param == "prompt_name"


async def test_documents_are_ranked_by_cosine(engine: EngineClient) -> None:
    documents = ["Bananas are yellow.", "Paris is the capital of France.", "I like cheese."]
    queries = ["What is the capital of France?"]
    answer = await score(engine, m.Score(queries=queries, documents=documents))
    assert answer.method == "cosine"
    vectors = rows(await embed(engine, m.Embed(inputs=[*queries, *documents])))
    assert answer.scores == pytest.approx(list(vectors[1:] @ vectors[0]), abs=1e-5)
    assert max(answer.scores) == answer.scores[1]


async def test_each_document_can_have_its_own_query(engine: EngineClient) -> None:
    texts = ["a cat", "a tax"]
    answer = await score(engine, m.Score(queries=texts, documents=texts))
    assert answer.scores == pytest.approx([1, 1], abs=1e-5)


async def test_a_document_is_cut_to_the_tokens_that_were_asked_for_and_named(
    engine: EngineClient,
) -> None:
    request = m.Score(queries=["q"], documents=["a b c d", "a b"], max_document_tokens=2)
    answer = await score(engine, request)
    assert answer.truncated == [0]
    assert answer.scores[0] == pytest.approx(answer.scores[1], abs=1e-5)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (m.Score(queries=["q", "q"], documents=["a", "b", "c"]), "queries"),
        (m.Score(queries=["q"], documents=[]), "documents"),
        (m.Score(queries=[""], documents=["a"]), "queries[0]"),
        (m.Score(queries=["q " * 300], documents=["a"]), "queries[0]"),
        (m.Score(queries=["q"], documents=["a " * 300], truncate="none"), "documents[0]"),
    ],
)
async def test_pairs_that_cannot_be_compared_are_refused_naming_the_side(
    engine: EngineClient, request_: m.Score, param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await score(engine, request_)
    assert refused.value.param == param


async def test_what_an_input_is_for_has_no_effect_without_a_prompt_and_is_named(
    engine: EngineClient,
) -> None:
    answer = await embed(engine, m.Embed(inputs=["a"], input_type="query"))
    assert answer.ignored == ["input_type"]


async def test_a_cancelled_call_makes_room_for_the_next_one(engine: EngineClient) -> None:
    bulk = asyncio.create_task(embed(engine, m.Embed(inputs=list(mixed_texts(2_048, seed=9)))))
    await embed(engine, m.Embed(inputs=["a sign that the bulk request is queued"]))
    bulk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bulk
    answer = await embed(engine, m.Embed(inputs=["next"]))
    assert answer.token_counts == [3]


async def test_a_reply_of_the_largest_request_fits(engine: EngineClient) -> None:
    answer = await embed(engine, m.Embed(inputs=[[100 + i] for i in range(2_048)]))
    assert rows(answer).shape == (2_048, 384)


async def test_a_kill_in_the_middle_of_a_batch_ends_every_call_with_an_error() -> None:
    engine = await loaded(built_in())
    waiting = [
        asyncio.create_task(embed(engine, m.Embed(inputs=list(mixed_texts(512, seed)))))
        for seed in range(3)
    ]
    await embed(engine, m.Embed(inputs=["a sign that the others are queued"]))
    engine.kill()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, WorkerLost) for outcome in outcomes), outcomes
    await engine.wait()


async def test_a_model_that_cannot_be_converted_says_so_and_runs_on_torch_where_that_is_allowed(
    tmp_path: Path,
) -> None:
    nowhere = tmp_path / "a file"
    nowhere.write_bytes(b"")
    *_, on_torch = load_options(built_in(backend="auto", device="cpu", converted_dir=nowhere))
    engine = await loaded(on_torch.entry)
    answer = await embed(engine, m.Embed(inputs=["still works"]))
    assert answer.dimension == 384
    assert on_torch.entry.fingerprint == built_in(backend=TORCH).fingerprint
    await engine.stop(5)
    engine = await started(entry := built_in(backend=OPENVINO, converted_dir=nowhere))
    with pytest.raises(BackendLoadFailed, match="cannot be written") as failed:
        async with asyncio.timeout(BOUND_S):
            await engine.load(entry.load_spec, lambda fraction, stage: None)
    assert "EMBEDDING_BACKEND=auto" in failed.value.suggestions[0]
    await engine.wait()


async def test_an_unknown_backend_is_a_failed_load() -> None:
    entry = built_in()
    engine = await started(entry)
    spec = protocol.raw(m.LoadSpec(backend="no-such-library", path=str(entry.path)))
    with pytest.raises(BackendLoadFailed, match="no-such-library"):
        async with asyncio.timeout(BOUND_S):
            await engine.load(spec, lambda fraction, stage: None)
    await engine.wait()
