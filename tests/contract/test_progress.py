"""What clients that wait in a stream are told, on every endpoint that streams."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from common.errors import BackendLoadFailed
from gateway.translate.progress import progress_text
from protos.y26hkx.v1 import chat_pb2
from tests.contract.running_gateway import running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, Generate, count_up, queued

MESSAGES = [{"role": "user", "content": "hi"}]
STREAMS: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 3, "model": CHAT_ID},
}


def loading(fraction: float, stage: str) -> chat_pb2.GenerateEvent:
    place = chat_pb2.Queued(
        position=1, reason="load", load_fraction=fraction, stage=stage, estimated_wait_s=3
    )
    return chat_pb2.GenerateEvent(queued=place)


def step_by_step(events: list[chat_pb2.GenerateEvent], go_on: asyncio.Event) -> Generate:
    """Tells each of `events` when it is asked to go on, then answers."""

    async def script(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        for event in events:
            yield event
            await go_on.wait()
            go_on.clear()
        async for event in count_up(request):
            yield event

    return script


@pytest.mark.parametrize("path", STREAMS)
async def test_each_stage_of_a_load_is_told_before_the_answer(
    worker: ScriptedWorker, path: str
) -> None:
    go_on = asyncio.Event()
    worker.generate = step_by_step(
        [queued(3), loading(0.1, "starting"), loading(0.42, "weights")], go_on
    )
    comments = []
    async with (
        running_gateway([worker], sse_progress_after_s=0) as gateway,
        gateway.http.stream("POST", path, json=STREAMS[path] | {"stream": True}) as reply,
    ):
        async for line in reply.aiter_lines():
            if line.startswith(":"):
                comments.append(line)
                go_on.set()
    assert comments == [
        ": queued, position 3",
        f": loading {CHAT_ID}: 10% (starting), about 3 s left",
        f": loading {CHAT_ID}: 42% (weights), about 3 s left",
    ]


async def test_a_load_that_fails_soon_keeps_its_status(worker: ScriptedWorker) -> None:
    async def fails(_: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
        yield loading(0.1, "weights")
        raise BackendLoadFailed("the model could not be loaded: bad layer")

    worker.generate = fails
    async with running_gateway([worker]) as gateway:
        for path, body in STREAMS.items():
            reply = await gateway.http.post(path, json=body | {"stream": True})
            assert reply.status_code == 503
            assert reply.json()["error"]["code"] == "BACKEND_LOAD_FAILED"


@pytest.mark.parametrize(
    "hostile", ["a\n\ndata: x", "a\r\rdata: x", "a\u2028b\x00c\u202e", "x" * 999]
)
def test_no_name_can_end_the_comment_that_it_stands_in(hostile: str) -> None:
    place = chat_pb2.Queued(reason="load", load_fraction=0.5, stage=hostile)
    text = progress_text(place, hostile)
    assert text.isprintable()
    assert len(text) < 250
