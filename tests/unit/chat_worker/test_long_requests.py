"""Long requests to a real worker: what they cost others, and how they end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import psutil
import pytest
import pytest_asyncio

from benchmarks.make_qwen_shape import TEMPLATE
from common.errors import Overloaded
from protos.y26hkx.v1 import chat_pb2 as pb
from tests.unit.chat_worker.running_worker import Worker, error_of, request, running_worker, text_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
PATIENT = ("tests.unit.chat_worker.patient_engine", "worker")
GREEDY = pb.Sampling(temperature=0)


def short_messages(n_messages: int) -> pb.Conversation:
    roles = ("user", "assistant")
    messages = [pb.Message(role=roles[i % 2], content=f"short text {i}") for i in range(n_messages)]
    return pb.Conversation(messages=[*messages, pb.Message(role="user", content="and now?")])


def long_message(n_bytes: int) -> pb.Conversation:
    text = "hello there my friend " * (n_bytes // 22)
    return pb.Conversation(messages=[pb.Message(role="user", content=text)])


def started(events: list[pb.GenerateEvent]) -> pb.Started:
    return next(event.started for event in events if event.HasField("started"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(tiny_gguf: Path) -> AsyncIterator[Worker]:
    limits = {"MAX_CONCURRENT_REQUESTS": "4", "MAX_QUEUED_REQUESTS": "80"}
    async with running_worker(tiny_gguf, **limits) as worker:
        await worker.generate()
        yield worker


@pytest.fixture(scope="module")
def endless_gguf(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its template never comes to an end; raw prompts need none."""
    model = tmp_path_factory.mktemp("models") / "endless.gguf"
    template = ENDLESS.ljust(len(TEMPLATE)).encode()
    original = tiny_gguf.read_bytes()
    assert original.count(TEMPLATE.encode()) == 1
    model.write_bytes(original.replace(TEMPLATE.encode(), template))
    return model


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def endless(endless_gguf: Path) -> AsyncIterator[Worker]:
    """Serves one request, and one more may wait."""
    limits = {"MAX_CONCURRENT_REQUESTS": "1", "MAX_QUEUED_REQUESTS": "1"}
    async with running_worker(endless_gguf, **limits) as worker:
        await worker.generate()
        yield worker


@pytest.mark.parametrize("conversation", [short_messages(100_000), long_message(8_000_000)])
async def test_a_small_request_passes_a_long_one_which_is_trimmed_and_answered(
    worker: Worker, conversation: pb.Conversation
) -> None:
    alone = text_of(await worker.generate(sampling=GREEDY))
    long = worker.stub.Generate(request(conversation=conversation))
    small = asyncio.create_task(worker.generate(sampling=GREEDY))
    events = [event async for event in long]
    assert text_of(await small) == alone
    told = started(events)
    assert 400 < told.prompt_tokens <= 512
    # Far more than fits: an estimate, but of the right size.
    assert told.trimmed_tokens > 1_000_000
    assert told.trimmed_messages in (0, *range(99_900, 100_000))
    assert events[-1].HasField("finished")


async def test_small_requests_pass_sixty_four_long_ones_and_all_are_answered(
    worker: Worker,
) -> None:
    conversation = long_message(1_000_000)
    long = [worker.stub.Generate(request(conversation=conversation)) for _ in range(64)]
    reading = [asyncio.create_task(_read(call)) for call in long]
    small = [asyncio.create_task(worker.generate(max_tokens=1)) for _ in range(4)]
    await asyncio.gather(*small)
    assert not all(task.done() for task in reading)
    assert all(events[-1].HasField("finished") for events in await asyncio.gather(*reading))


async def test_a_long_request_that_is_cancelled_frees_its_place(worker: Worker) -> None:
    await worker.generate()
    calls = [worker.stub.Generate(request(conversation=short_messages(50_000))) for _ in range(6)]
    await worker.generate(max_tokens=1)
    for call in calls:
        call.cancel()
    assert (await worker.generate(conversation=short_messages(3)))[-1].HasField("finished")


async def test_a_template_that_never_ends_costs_its_own_request_only(endless: Worker) -> None:
    (engine,) = endless.engines()
    refused = asyncio.create_task(endless.generate(conversation=short_messages(2)))
    assert (await endless.generate())[-1].HasField("finished")
    assert not refused.done()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await refused
    error = error_of(caught.value)
    assert (error.code, error.param) == ("invalid_request", "messages")
    assert "took too long" in error.message
    assert (await endless.generate())[-1].HasField("finished")
    assert endless.engines() == [engine]


async def test_a_call_that_is_cancelled_while_its_template_runs_ends_it(endless_gguf: Path) -> None:
    limits = {"MAX_CONCURRENT_REQUESTS": "1", "MAX_QUEUED_REQUESTS": "1"}
    async with running_worker(endless_gguf, command=PATIENT, **limits) as worker:
        await worker.generate()
        (engine,) = worker.engines()
        calls = [worker.stub.Generate(request(conversation=short_messages(2))) for _ in range(2)]
        reading = [asyncio.create_task(_read(call)) for call in calls]
        while not await _computes(engine):
            pass
        for call in calls:
            call.cancel()
        # Neither the lane of short requests nor a place in the queue is taken any more.
        while not await _is_served(worker):
            pass
        while await _computes(engine):
            pass
        outcomes = await asyncio.gather(*reading, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)


async def _computes(process: psutil.Process) -> bool:
    """Whether it takes the processor for more than a tenth of a quarter of a second."""
    before = process.cpu_times()
    await asyncio.sleep(0.25)
    after = process.cpu_times()
    return after.user + after.system - before.user - before.system > 0.025


async def _is_served(worker: Worker) -> bool:
    """False: all places are taken."""
    try:
        return (await worker.generate(max_tokens=1))[-1].HasField("finished")
    except grpc.aio.AioRpcError as refused:
        if isinstance(error_of(refused), Overloaded):
            return False
        raise


async def _read(
    call: "grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent]",
) -> list[pb.GenerateEvent]:
    return [event async for event in call]
