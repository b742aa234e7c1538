"""Limits in tokens: reserved before a call, given back after it, and said in headers."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from common import errors
from gateway.keys.administration import add_key
from gateway.keys.ledger import SumKey
from gateway.keys.record import Limits, Rights
from protos.y26hkx.v1 import chat_pb2, common_pb2
from tests.contract.failures import raising
from tests.contract.running_gateway import RunningGateway, running_gateway, until
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import PROMPT_TOKENS, delta, started

CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
BODY = {"messages": MESSAGES, "max_tokens": 10}
N_DEPARTURES = 60


class Limited:
    """A gateway, and one key with limits."""

    def __init__(self, gateway: RunningGateway, client: str, key: str) -> None:
        self.gateway = gateway
        self.client = client
        self.key = key
        self.header = {"authorization": f"Bearer {key}"}

    async def chat(self, **more: Any) -> Any:
        return await self.gateway.http.post(CHAT, json=BODY | more, headers=self.header)

    async def embed(self) -> Any:
        body = {"input": "hello"}
        return await self.gateway.http.post(EMBED, json=body, headers=self.header)

    def used(self, kind: str, measure: str) -> int:
        """What counts for the key, in all periods."""
        sums = self.gateway.services.budgets.sums
        return sum(
            sums.get(key)
            for key in list(sums._sums)  # noqa: SLF001 - what would leak is not said outside
            if isinstance(key, SumKey) and (key.kind, key.measure) == (kind, measure)
        )


@pytest.fixture
async def limited(
    worker: ScriptedWorker, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Limited]:
    made = add_key(tmp_path / "keys", Rights(**request.param))
    async with running_gateway([worker], api_keys_file=tmp_path / "keys") as gateway:
        yield Limited(gateway, made.record.client, made.text)


def with_limits(**rights: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("limited", [rights], indirect=True)


@with_limits(chat=Limits(tokens_per_minute=1000, tokens_per_day=5000))
async def test_what_an_answer_does_not_use_is_given_back(
    limited: Limited, worker: ScriptedWorker
) -> None:
    async def two_of_many(
        request: chat_pb2.GenerateRequest,
    ) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("a")
        during.append(limited.used("chat", "tokens_per_minute"))
        yield chat_pb2.GenerateEvent(
            finished=chat_pb2.Finished(
                usage=common_pb2.Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=2)
            )
        )

    during: list[int] = []
    worker.generate = two_of_many
    assert (await limited.chat(max_tokens=500)).status_code == 200
    assert during[0] >= 500
    for measure in ("tokens_per_minute", "tokens_per_day"):
        assert limited.used("chat", measure) == PROMPT_TOKENS + 2


@with_limits(chat=Limits(tokens_per_minute=100))
async def test_an_answer_that_fails_costs_nothing(limited: Limited, worker: ScriptedWorker) -> None:
    worker.generate = raising(errors.BackendFailure("broken"))
    assert (await limited.chat()).status_code == 500
    assert limited.used("chat", "tokens_per_minute") == 0


@with_limits(chat=Limits(tokens_per_minute=10**9))
async def test_clients_that_leave_keep_nothing_reserved(
    limited: Limited, worker: ScriptedWorker
) -> None:
    async def talks(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        yield delta("x")
        await asyncio.Event().wait()

    worker.generate = talks
    client = openai.AsyncOpenAI(
        base_url=f"{limited.gateway.base_url}/v1", api_key=limited.key, max_retries=0
    )

    async def leave(_: int) -> None:
        stream: Any = await client.chat.completions.create(
            model="qwen-scripted",
            messages=MESSAGES,
            stream=True,
            max_tokens=1000,
        )
        async for _chunk in stream:
            break
        await stream.close()

    for at in range(0, N_DEPARTURES, 20):
        await asyncio.gather(*(leave(n) for n in range(at, at + 20)))
    await until(lambda: all(call.ended.is_set() for call in worker.calls))
    # Three tokens of each prompt, and the one that came.
    most = (PROMPT_TOKENS + 1) * N_DEPARTURES
    await until(lambda: limited.used("chat", "tokens_per_minute") <= most)
    await client.close()


@with_limits(chat=Limits(tokens_per_minute=60))
async def test_over_the_limit_it_is_a_429_in_openais_words(limited: Limited) -> None:
    assert (await limited.chat(max_tokens=30)).status_code == 200
    refused = await limited.chat(max_tokens=40)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (429, "rate_limit_exceeded")
    assert "on tokens per min (TPM): Limit 60" in error["message"]
    assert 0 < int(refused.headers["retry-after-ms"]) <= 120_000
    assert refused.headers.get("x-should-retry") is None
    # More than a minute has will never fit.
    never = await limited.chat(max_tokens=1000)
    assert "Request too large" in never.json()["error"]["message"]
    assert never.headers["x-should-retry"] == "false"


@with_limits(chat=Limits(tokens_per_minute=50), embeddings=Limits(tokens_per_minute=50))
async def test_chat_and_embeddings_are_counted_apart(limited: Limited) -> None:
    assert (await limited.chat(max_tokens=40)).status_code == 200
    assert (await limited.chat(max_tokens=40)).status_code == 429
    assert (await limited.embed()).status_code == 200
    assert limited.used("embeddings", "tokens_per_minute") == 2


@with_limits(chat=Limits(requests_per_minute=2))
async def test_requests_a_minute_are_counted_for_this_key(limited: Limited) -> None:
    replies = [await limited.chat() for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert "requests per min (RPM): Limit 2" in replies[-1].json()["error"]["message"]
    assert [r.headers["x-ratelimit-remaining-requests"] for r in replies[:2]] == ["1", "0"]


@with_limits(concurrent_requests=1)
async def test_a_key_may_have_a_limit_of_its_own_in_flight(
    limited: Limited, worker: ScriptedWorker
) -> None:
    go_on = asyncio.Event()

    async def waits(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield started()
        await go_on.wait()
        yield chat_pb2.GenerateEvent(finished=chat_pb2.Finished())

    worker.generate = waits
    first = asyncio.create_task(limited.chat())
    await worker.next_call()
    assert (await limited.chat()).status_code == 429
    go_on.set()
    assert (await first).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@with_limits(chat=Limits(requests_per_minute=9, tokens_per_minute=500, tokens_per_day=300))
async def test_every_reply_says_what_is_left_streams_too(limited: Limited, stream: bool) -> None:
    headers = (await limited.chat(stream=stream)).headers
    assert headers["x-ratelimit-limit-requests"] == "9"
    assert headers["x-ratelimit-remaining-requests"] == "8"
    # The day's limit is the one that is nearest.
    assert headers["x-ratelimit-limit-tokens"] == "300"
    assert 0 < int(headers["x-ratelimit-remaining-tokens"]) < 300
    assert headers["x-ratelimit-reset-tokens"].endswith("s")
    assert headers["ratelimit-policy"] == (
        '"requests";q=9;w=60, "tokens";q=500;w=60, "tokens-day";q=300;w=86400'
    )
    assert headers["ratelimit"].startswith('"requests";r=8;t=')


@with_limits(chat=Limits(requests_per_minute=1))
async def test_the_openai_sdk_waits_as_it_is_told_and_then_gets_its_answer(
    limited: Limited,
) -> None:
    # Time goes by a minute whenever the client is told to wait.
    budgets = limited.gateway.services.budgets
    begun_s, jumped_s = time.time(), [0.0]
    budgets._clock = lambda: begun_s + jumped_s[0]  # noqa: SLF001 - nobody waits a minute in a test
    slept: list[float] = []

    class Client(openai.AsyncOpenAI):
        async def _sleep_for_retry(self, **options: Any) -> None:
            slept.append(
                self._calculate_retry_timeout(1, options["options"], options["response"].headers)
            )
            jumped_s[0] += slept[-1]

    async with Client(
        base_url=f"{limited.gateway.base_url}/v1", api_key=limited.key, max_retries=2
    ) as client:
        for _ in range(2):
            reply = await client.chat.completions.create(
                model="qwen-scripted",
                messages=MESSAGES,
                max_tokens=2,
            )
            assert reply.choices[0].message.content
    assert len(slept) == 1


@pytest.mark.parametrize("proxy", ["127.0.0.0/8", "no.such.name.invalid, localhost"])
async def test_behind_a_trusted_proxy_a_client_is_who_the_proxy_says(
    worker: ScriptedWorker, proxy: str
) -> None:
    settings = {"rate_limit": "1/minute", "trusted_proxies": proxy}
    async with running_gateway([worker], **settings) as gateway:
        await until(lambda: "127.0.0.1" in gateway.services.proxies)

        async def status(forwarded: str) -> int:
            headers = {"x-forwarded-for": forwarded}
            return (await gateway.http.get("/v1/models", headers=headers)).status_code

        assert [await status("1.2.3.4"), await status("5.6.7.8")] == [200, 200]
        # What a client adds in front of what the proxy saw counts for nothing.
        assert await status("9.9.9.9, 1.2.3.4") == 429
        assert await status("client=evil status=1") == 200


async def test_nobody_else_is_believed_where_a_client_is(worker: ScriptedWorker) -> None:
    async with running_gateway([worker], rate_limit="1/minute") as gateway:
        replies = [
            await gateway.http.get("/v1/models", headers={"x-forwarded-for": f"1.2.3.{n}"})
            for n in range(2)
        ]
    assert [reply.status_code for reply in replies] == [200, 429]
