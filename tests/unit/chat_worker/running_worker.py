"""A chat worker as a process, spoken to over gRPC; its engine processes are real too."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import psutil
from google.rpc.status_pb2 import Status

from common.errors import ServingError
from common.rpc_status import DETAILS_KEY, from_status
from protos.y26hkx.v1 import chat_pb2 as pb
from protos.y26hkx.v1.chat_pb2_grpc import ChatServiceStub

if TYPE_CHECKING:
    from protos.y26hkx.v1.chat_pb2_grpc import ChatServiceAsyncStub

START_WITHIN_S = 60
CHANNEL = [("grpc.max_send_message_length", 64 * 1024 * 1024)]


class Worker:
    def __init__(
        self, process: asyncio.subprocess.Process, stub: "ChatServiceAsyncStub", target: str
    ) -> None:
        self.process = process
        self.stub = stub
        self.target = target
        self.log: list[str] = []

    async def generate(self, **fields: object) -> list[pb.GenerateEvent]:
        return [event async for event in self.stub.Generate(request(**fields))]

    def engines(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


def request(**fields: object) -> pb.GenerateRequest:
    plain = {"prompt": "hello there", "max_tokens": 8, "ignore_eos": True}
    if "conversation" in fields:
        del plain["prompt"]
    return pb.GenerateRequest(**(plain | fields))  # type: ignore[arg-type]


@asynccontextmanager
async def running_worker(
    model: Path, *, command: Sequence[str] = ("chat_worker",), **settings: str
) -> AsyncIterator[Worker]:
    """
    Args:
        command: the module to run, and its arguments.
    """
    environment = {
        **os.environ,  # noqa: TID251 - the test is the outermost caller
        "CHAT_WORKER_PORT": "0",
        "MODELS_DIR": str(model.parent),
        "MODEL_PATH": str(model),
        "LLAMA_CTX": "512",
        # Every engine process has a model.
        "STANDBY_ENGINE": "0",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command), env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        port = await asyncio.wait_for(_port(process), START_WITHIN_S)
        target = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(target, options=CHANNEL) as channel:
            worker = Worker(process, ChatServiceStub(channel), target)
            draining = asyncio.create_task(_drain(worker))
            yield worker
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), START_WITHIN_S)
    await draining


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stderr is not None
    async for line in process.stderr:
        if found := re.search(rb"listens on .*:(\d+)", line):
            return int(found[1])
    raise AssertionError("the worker ended before it listened")


async def _drain(worker: Worker) -> None:
    assert worker.process.stderr is not None
    async for line in worker.process.stderr:
        worker.log.append(line.decode("utf-8", "replace"))


def error_of(raised: grpc.aio.AioRpcError) -> ServingError:
    for key, value in raised.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            error = from_status(Status.FromString(value))
            assert error is not None
            return error
    raise AssertionError(f"no details in {raised}")


async def read_to_end(call: "grpc.aio.UnaryStreamCall[Any, Any]") -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def text_of(events: list[pb.GenerateEvent]) -> str:
    return "".join(event.delta.text for event in events)
