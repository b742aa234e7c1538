"""The whole worker as a process: gRPC in front, a real engine process behind."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from common.errors import Overloaded
from protos.y26hkx.v1 import chat_pb2 as pb
from tests.unit.chat_worker.running_worker import (
    Worker,
    error_of,
    read_to_end,
    request,
    running_worker,
    text_of,
)

MODEL_LIBRARIES = {"numpy", "jinja2", "llama_cpp", "torch", "transformers"}


@pytest.fixture
async def worker(tiny_gguf: Path) -> AsyncIterator[Worker]:
    limits = {"MAX_CONCURRENT_REQUESTS": "2", "MAX_QUEUED_REQUESTS": "2"}
    async with running_worker(tiny_gguf, **limits) as worker:
        yield worker


async def test_a_first_request_loads_the_model_tells_meanwhile_and_answers(worker: Worker) -> None:
    events = await worker.generate()
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "queued"
    assert kinds[-1] == "finished"
    started = next(event.started for event in events if event.HasField("started"))
    assert (started.model.id, started.model.backend) == ("tiny", "llama.cpp")
    assert events[-1].finished.usage.completion_tokens == 8
    again = await worker.generate()
    assert again[0].HasField("started") or again[0].queued.reason == "queue"


async def test_an_unknown_model_is_not_found_with_suggestions(worker: Worker) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await worker.generate(model="none")
    error = error_of(caught.value)
    assert error.code == "model_not_found"
    assert "tiny" in error.suggestions


async def test_more_than_the_queue_takes_are_refused_at_once_and_the_others_finish(
    worker: Worker,
) -> None:
    await worker.generate()
    asked = [asyncio.create_task(worker.generate(max_tokens=150)) for _ in range(9)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [o for o in outcomes if isinstance(o, grpc.aio.AioRpcError)]
    assert len(refused) == 5
    for one in refused:
        error = error_of(one)
        assert isinstance(error, Overloaded)
        assert error.retry_after_s is not None
    answered = [o for o in outcomes if isinstance(o, list)]
    assert all(events[-1].HasField("finished") for events in answered)
    assert len(await worker.generate()) > 1


async def test_cancelled_calls_leave_their_places_to_others(worker: Worker) -> None:
    await worker.generate()
    for _ in range(6):
        call = worker.stub.Generate(request(max_tokens=400))
        await call.read()
        call.cancel()
    events = await worker.generate()
    assert events[-1].HasField("finished")


async def test_a_killed_engine_is_an_error_to_its_callers_and_the_next_request_works(
    worker: Worker,
) -> None:
    expected = text_of(await worker.generate(sampling=pb.Sampling(temperature=0)))
    call = worker.stub.Generate(request(max_tokens=450, n=8))
    assert await call.read()
    (engine,) = worker.engines()
    engine.kill()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_to_end(call)
    assert error_of(caught.value).code == "worker_lost"
    events = await worker.generate(sampling=pb.Sampling(temperature=0))
    assert text_of(events) == expected


async def test_tokens_go_there_and_back_and_templates_are_applied(worker: Worker) -> None:
    tokens = await worker.stub.Tokenize(pb.TokenizeTextRequest(text="hi <|im_start|>"))
    text = await worker.stub.Detokenize(pb.DetokenizeRequest(tokens=tokens.tokens))
    assert text.text == "hi <|im_start|>"
    assert b"".join(tokens.pieces) == b"hi <|im_start|>"
    conversation = pb.Conversation(messages=[pb.Message(role="user", content="hi")])
    applied = await worker.stub.ApplyTemplate(pb.ApplyTemplateRequest(conversation=conversation))
    assert applied.prompt.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_the_parent_never_imports_a_model_library() -> None:
    code = "import chat_worker.__main__, sys; print(*sorted(m.split('.')[0] for m in sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert not MODEL_LIBRARIES & set(printed.split())
