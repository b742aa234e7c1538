"""A worker that does as it is told: the contract's services over a real socket, no model.

    async with ScriptedWorker(generate=my_script) as worker:
        ... worker.port

Scripts are plain functions, so a test reads as what the worker does. `worker.calls` tells what
arrived and how it ended. Also fit as a null worker for benchmarks: the defaults answer at once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from common.errors import ServingError
from protos.y26hkx.v1 import chat_pb2_grpc, embed_pb2_grpc, worker_pb2, worker_pb2_grpc
from tests.contract.scripted_services import (
    ScriptedChat,
    ScriptedControl,
    ScriptedEmbed,
    metadata_of,
)
from tests.contract.worker_scripts import (
    CHAT_ID,
    EMBED_ID,
    Embed,
    Generate,
    Load,
    count_up,
    load_in_two_steps,
    row_numbers,
)

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
)


@dataclass
class Call:
    """One call as the worker saw it."""

    request: Any
    metadata: dict[str, str]
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ScriptedWorker:
    """
    Args:
        generate: what `Generate` answers; may raise ServingError.
        embed: what `Embed` answers; may raise ServingError.
        load: what `LoadModel` tells; may raise ServingError.
        rescan_error: raised by `RescanModels` instead of an answer.
        score_error: raised by `Rerank` and `Score` instead of an answer.
        truncated: documents that those say were cut.
        chat_ids: chat models it lists.
        memory: what its status says of it.
    """

    def __init__(
        self,
        generate: Generate = count_up,
        embed: Embed = row_numbers,
        *,
        load: Load = load_in_two_steps,
        rescan_error: ServingError | None = None,
        score_error: ServingError | None = None,
        truncated: Sequence[int] = (),
        chat_ids: tuple[str, ...] = (CHAT_ID,),
        memory: worker_pb2.Memory | None = None,
    ) -> None:
        self.generate = generate
        self.embed = embed
        self.load = load
        # More of what its first chat model says of itself, and its embedding model.
        self.facts: dict[str, Any] = {}
        self.embed_state = worker_pb2.MODEL_STATE_UNLOADED
        self.embed_facts: dict[str, Any] = {}
        self.rescan_error = rescan_error
        self.score_error = score_error
        self.truncated = truncated
        self.chat_ids = chat_ids
        self.memory = memory
        self.calls: list[Call] = []
        # How often it was asked to scan its models folder.
        self.n_rescans = 0
        self.arrived = asyncio.Event()
        self.host = "scripted"
        self.port = 0
        self._health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self.stopping = asyncio.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        # A server of gRPC's that is left running keeps Python from ending.
        await self.stop()

    async def start(self, port: int = 0) -> int:
        """Listen on loopback; the port."""
        server = self._server = grpc.aio.server(options=OPTIONS)
        self.stopping = asyncio.Event()
        chat_pb2_grpc.add_ChatServiceServicer_to_server(ScriptedChat(self), server)
        embed_pb2_grpc.add_EmbedServiceServicer_to_server(ScriptedEmbed(self), server)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(ScriptedControl(self), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        await self.set_serving(True)
        self.port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return self.port

    async def stop(self) -> None:
        """Drop everything, as a killed process does."""
        self.stopping.set()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def set_serving(self, serving: bool) -> None:
        states = health_pb2.HealthCheckResponse
        await self._health.set("", states.SERVING if serving else states.NOT_SERVING)

    async def next_call(self) -> Call:
        """The latest call, once there is one."""
        async with asyncio.timeout(10):
            await self.arrived.wait()
        return self.calls[-1]

    def record(self, request: Any, context: Any) -> Call:
        call = Call(request, metadata_of(context))
        self.calls.append(call)
        self.arrived.set()
        return call

    def models(self) -> list[worker_pb2.Model]:
        chat = [
            worker_pb2.Model(
                id=model,
                capability=worker_pb2.CAPABILITY_CHAT,
                is_default=at == 0,
                counters=worker_pb2.ModelCounters(loads=2, load_failures=1, load_seconds_sum=3),
                **({"state": worker_pb2.MODEL_STATE_READY} | ({} if at else self.facts)),
            )
            for at, model in enumerate(self.chat_ids)
        ]
        embed = worker_pb2.Model(
            id=EMBED_ID,
            capability=worker_pb2.CAPABILITY_EMBED,
            state=self.embed_state,
            is_default=True,
            **self.embed_facts,
        )
        return [*chat, embed]
