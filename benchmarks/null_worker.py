"""A worker that answers at once and computes nothing: `python -m benchmarks.null_worker PORT`."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from chat_worker.call_stream import GenerateStream
from protos.y26hkx.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    embed_pb2,
    embed_pb2_grpc,
    worker_pb2,
    worker_pb2_grpc,
)
from worker_runtime.rpc.inflight import InflightRpcs

VECTOR = b"\x00\x00\x80\x3f" * 384
CHAT = common_pb2.ServedModel(id="null-chat", backend="null", fingerprint="fp_0000000000000000")
EMBED = common_pb2.ServedModel(id="null-embed", backend="null", fingerprint="fp_0000000000000000")


class NullChat(chat_pb2_grpc.ChatServiceServicer):
    async def Generate(  # noqa: N802 -- the name in the contract
        self, request: chat_pb2.GenerateRequest, context: Any
    ) -> AsyncGenerator[chat_pb2.GenerateEvent, None]:
        yield chat_pb2.GenerateEvent(started=chat_pb2.Started(model=CHAT, prompt_tokens=1))
        for _ in range(request.max_tokens):
            yield chat_pb2.GenerateEvent(delta=chat_pb2.Delta(text=" token", n_tokens=1))
        end = chat_pb2.ChoiceEnd(reason=chat_pb2.ChoiceEnd.REASON_LENGTH)
        usage = common_pb2.Usage(prompt_tokens=1, completion_tokens=request.max_tokens)
        yield chat_pb2.GenerateEvent(finished=chat_pb2.Finished(choices=[end], usage=usage))

    async def GenerateMany(  # type: ignore[override]  # noqa: N802 -- the stubs know generators only
        self, request_iterator: AsyncIterator[chat_pb2.GenerateCalls], context: Any
    ) -> None:
        stream = GenerateStream(lambda request: self.Generate(request, context), InflightRpcs())
        await stream.run(request_iterator, context)


class NullEmbed(embed_pb2_grpc.EmbedServiceServicer):
    async def Embed(self, request: embed_pb2.EmbedRequest, context: Any) -> embed_pb2.EmbedResponse:  # noqa: N802 -- the name in the contract
        n = len(request.inputs)
        return embed_pb2.EmbedResponse(
            model=EMBED,
            vectors=VECTOR * n,
            dimension=384,
            token_counts=[1] * n,
            usage=common_pb2.Usage(prompt_tokens=n),
        )


class NullWorker(worker_pb2_grpc.WorkerServiceServicer):
    async def WatchStatus(  # noqa: N802 -- the name in the contract
        self, request: worker_pb2.WatchStatusRequest, context: Any
    ) -> AsyncIterator[worker_pb2.WorkerStatus]:
        kinds = {"null-chat": "CAPABILITY_CHAT", "null-embed": "CAPABILITY_EMBED"}
        models = [
            worker_pb2.Model(
                id=model,
                capability=worker_pb2.Capability.Value(kind),
                state=worker_pb2.MODEL_STATE_READY,
                is_default=True,
            )
            for model, kind in kinds.items()
        ]
        yield worker_pb2.WorkerStatus(worker_id="null", models=models)
        await asyncio.Event().wait()


async def serve(port: int) -> None:
    # The stubs call unimplemented methods abstract; at run time they answer UNIMPLEMENTED, rightly.
    server = grpc.aio.server()
    chat_pb2_grpc.add_ChatServiceServicer_to_server(NullChat(), server)  # type: ignore[abstract]
    embed_pb2_grpc.add_EmbedServiceServicer_to_server(NullEmbed(), server)  # type: ignore[abstract]
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(NullWorker(), server)  # type: ignore[abstract]
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
