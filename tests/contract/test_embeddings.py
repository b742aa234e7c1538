"""Embedding requests beyond OpenAI's minimum: what reaches the worker, and what replies say."""

import asyncio
import base64

import httpx
import numpy as np
import openai
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse

from common.errors import ContextLengthExceeded, ModelNotFound
from gateway.app import create_app
from gateway.routes.embedder import embed_tokens, embeds
from gateway.services import services_of
from gateway.settings import GatewaySettings
from protos.y26hkx.v1 import embed_pb2
from tests.contract.running_gateway import RunningGateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.test_bad_input import check_shape
from tests.contract.worker_scripts import CHAT_ID, EMBED, EMBED_ID, row_numbers

EMBEDDINGS = "/v1/embeddings"


async def post(gateway: RunningGateway, **fields: object) -> httpx.Response:
    reply = await gateway.http.post(EMBEDDINGS, json={"input": "a"} | fields)
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply


async def test_every_field_reaches_the_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    await post(
        gateway,
        model=EMBED_ID,
        dimensions=2,
        truncate="START",
        prompt_name="query",
        input_type="search_document",
        keep_alive="5m",
    )
    assert worker.calls[-1].request == embed_pb2.EmbedRequest(
        model=EMBED_ID,
        inputs=[embed_pb2.EmbedInput(text="a")],
        dimensions=2,
        truncate=embed_pb2.TRUNCATE_START,
        prompt_name="query",
        input_type="document",
        keep_alive_s=300,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (True, embed_pb2.TRUNCATE_END),
        (False, embed_pb2.TRUNCATE_NONE),
        ("none", embed_pb2.TRUNCATE_NONE),
        (None, embed_pb2.TRUNCATE_UNSPECIFIED),
    ],
)
async def test_truncation_can_be_a_word_or_a_yes_or_no(
    gateway: RunningGateway, worker: ScriptedWorker, given: object, expected: int
) -> None:
    await post(gateway, truncate=given)
    assert worker.calls[-1].request.truncate == expected


async def test_texts_and_token_ids_can_stand_side_by_side(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    reply = await post(gateway, input=["a", [5, 6], "b"], modality="text")
    assert len(reply.json()["data"]) == 3
    assert list(worker.calls[-1].request.inputs) == [
        embed_pb2.EmbedInput(text="a"),
        embed_pb2.EmbedInput(tokens=embed_pb2.TokenIdList(ids=[5, 6])),
        embed_pb2.EmbedInput(text="b"),
    ]


async def test_the_route_is_also_where_infinitys_and_llama_servers_clients_look(
    gateway: RunningGateway,
) -> None:
    reply = await gateway.http.post("/embeddings", json={"input": ["a", "b"]})
    assert len(reply.json()["data"]) == 2


async def test_a_chat_model_is_said_to_be_one(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def refuse(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        raise ModelNotFound("the model does not exist", param="model")

    worker.embed = refuse
    asked = {"input": "a", "model": CHAT_ID}
    error = check_shape(await gateway.http.post(EMBEDDINGS, json=asked), 400)
    assert error["param"] == "model"
    assert "chats" in error["message"]
    check_shape(await gateway.http.post(EMBEDDINGS, json=asked | {"model": "other"}), 404)


@pytest.mark.parametrize(("given", "expected"), [(10, 10), (-1, None), (None, None)])
async def test_inputs_can_be_cut_to_a_number_of_tokens_as_in_vllm(
    gateway: RunningGateway, worker: ScriptedWorker, given: int | None, expected: int | None
) -> None:
    await post(gateway, truncate_prompt_tokens=given)
    request = worker.calls[-1].request
    assert (request.max_tokens if request.HasField("max_tokens") else None) == expected


async def test_what_has_no_effect_and_what_was_cut_is_named(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def cut(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        reply = await row_numbers(request)
        reply.truncated.extend([0, 2])
        reply.ignored.append("input_type")
        return reply

    worker.embed = cut
    reply = await post(gateway, input=["a", "b", "c"], input_type="query", user="me")
    assert reply.headers["x-ignored-parameters"] == "input_type, user"
    assert reply.headers["x-truncated-inputs"] == "0, 2"
    assert reply.json()["truncated"] == [0, 2]


async def test_a_reply_names_the_models_fingerprint_and_no_cut_where_there_is_none(
    gateway: RunningGateway,
) -> None:
    reply = await post(gateway)
    assert reply.headers["x-model-fingerprint"] == EMBED.fingerprint
    assert reply.json()["system_fingerprint"] == EMBED.fingerprint
    assert "truncated" not in reply.json()
    assert not {"x-truncated-inputs", "x-ignored-parameters"} & set(reply.headers)


async def test_a_reply_says_what_the_model_computes_in_and_how_exact_that_is(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def rounded(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        reply = await row_numbers(request)
        reply.model.precision, reply.model.cosine = "bf16, int8 weights", 0.9987
        return reply

    worker.embed = rounded
    reply = await post(gateway)
    said = "bf16, int8 weights; cosine to float32 0.998700"
    assert reply.headers["x-model-precision"] == said


async def test_2048_cut_inputs_are_named_in_a_header_that_clients_take(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def cut(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        reply = await row_numbers(request)
        reply.truncated.extend(range(len(request.inputs)))
        return reply

    worker.embed = cut
    reply = await post(gateway, input=["a"] * 2048)
    assert len(reply.json()["truncated"]) == 2048
    assert len(reply.headers["x-truncated-inputs"]) < 8000


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_the_largest_request_for_long_vectors_is_answered_whole(
    gateway: RunningGateway, worker: ScriptedWorker, encoding: str
) -> None:
    length, texts = 1024, [f"text {number}" for number in range(2048)]
    rows = np.random.default_rng(1).standard_normal((len(texts), length), dtype=np.float32)

    async def long(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        assert [given.text for given in request.inputs] == texts
        return embed_pb2.EmbedResponse(model=EMBED, vectors=rows.tobytes(), dimension=length)

    worker.embed = long
    data = (await post(gateway, input=texts, encoding_format=encoding)).json()["data"]
    assert [row["index"] for row in data] == list(range(len(texts)))
    if encoding == "base64":
        found = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in data]
    else:
        found = [np.array(row["embedding"], np.float32) for row in data]
    np.testing.assert_array_equal(np.stack(found), rows)


async def test_the_openai_sdk_sees_a_workers_refusal_with_the_input_at_fault(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    async def refuse(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
        raise ContextLengthExceeded("402 tokens, the model takes 256", param="input[1]")

    worker.embed = refuse

    def use_sdk() -> None:
        with (
            openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="any") as client,
            pytest.raises(openai.BadRequestError, match="402 tokens") as refused,
        ):
            client.embeddings.create(
                model=EMBED_ID, input=["a", "b"], extra_body={"truncate": "none"}
            )
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input[1]")

    await asyncio.to_thread(use_sdk)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input_type": "image"}, "input_type"),
        ({"input_type": 5}, "input_type"),
        ({"prompt_name": ["query"]}, "prompt_name"),
        ({"truncate": "middle"}, "truncate"),
        ({"truncate": 1}, "truncate"),
        ({"dimensions": 1.5}, "dimensions"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"texts": ["a"]}, "texts"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [["a"]]}, "input[0][0]"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": [5, "a"]}, "input[1]"),
        ({"input": [[1], "a", [True]]}, "input[2][0]"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": None}, "input"),
        ({"modality": "image"}, "modality"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_wrong_field_is_named(
    gateway: RunningGateway, fields: dict[str, object], param: str
) -> None:
    error = check_shape(await gateway.http.post(EMBEDDINGS, json={"input": "a"} | fields), 400)
    assert error["param"] == param


async def test_other_routes_can_ask_for_an_embedding_models_tokens(
    worker: ScriptedWorker,
) -> None:
    app = create_app(GatewaySettings(_env_file=None, embed_workers=worker.address, chat_workers=""))

    async def tokens(request: Request) -> JSONResponse:
        listed = [embeds(services_of(request), name) for name in (EMBED_ID.upper(), "nope", "")]
        assert listed == [True, False, False]
        message = embed_pb2.TokenizeRequest(model=EMBED_ID, texts=["ab", "c"])
        return JSONResponse([list(found.ids) for found in await embed_tokens(request, message)])

    app.add_route("/tokens", tokens, methods=["POST"])
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        pool = app.state.services.pool.embed
        await until(lambda: any(endpoint.status.models for endpoint in pool.serving))
        reply = await http.post("/tokens")
    assert reply.json() == [[0, 1], [0]]
