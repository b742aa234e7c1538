"""The least that FastAPI, pydantic and gRPC need to do a gateway's work: no keys, limits, ids,
metrics, errors or watch for clients that leave. `python -m benchmarks.bare_relay PORT WORKER_PORT`.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import orjson
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from protos.y26hkx.v1 import chat_pb2, chat_pb2_grpc, embed_pb2, embed_pb2_grpc


class Embeddings(BaseModel):
    model: str
    input: str


class Message(BaseModel):
    role: str
    content: str


class Chat(BaseModel):
    model: str
    messages: list[Message]
    max_tokens: int
    stream: bool = False


def create_app(worker: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with grpc.aio.insecure_channel(worker) as channel:
            app.state.embed = embed_pb2_grpc.EmbedServiceStub(channel)
            app.state.chat = chat_pb2_grpc.ChatServiceStub(channel)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/health/ready")
    async def ready() -> Response:
        return Response()

    @app.post("/v1/embeddings")
    async def embeddings(body: Embeddings) -> Response:
        item = embed_pb2.EmbedInput(text=body.input)
        reply = await app.state.embed.Embed(embed_pb2.EmbedRequest(model=body.model, inputs=[item]))
        vector = memoryview(reply.vectors).cast("f").tolist()
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        usage = {"prompt_tokens": reply.usage.prompt_tokens}
        found = {"object": "list", "data": data, "model": reply.model.id, "usage": usage}
        return Response(orjson.dumps(found), media_type="application/json")

    @app.post("/v1/chat/completions")
    async def chat(body: Chat) -> Response:
        messages = [chat_pb2.Message(role=m.role, content=m.content) for m in body.messages]
        request = chat_pb2.GenerateRequest(
            model=body.model,
            conversation=chat_pb2.Conversation(messages=messages),
            max_tokens=body.max_tokens,
        )
        return StreamingResponse(chunks(app.state.chat, request), media_type="text/event-stream")

    return app


async def chunks(
    # Quoted: only the type stubs have it.
    stub: "chat_pb2_grpc.ChatServiceAsyncStub",
    request: chat_pb2.GenerateRequest,
) -> AsyncIterator[bytes]:
    async for event in stub.Generate(request):
        if event.HasField("delta"):
            choice = {"index": 0, "delta": {"content": event.delta.text}, "finish_reason": None}
            chunk = {"id": "x", "object": "chat.completion.chunk", "choices": [choice]}
            yield b"data: " + orjson.dumps(chunk) + b"\n\n"
    yield b"data: [DONE]\n\n"


if __name__ == "__main__":
    uvicorn.run(
        create_app(f"127.0.0.1:{sys.argv[2]}"),
        port=int(sys.argv[1]),
        http="httptools",
        loop="asyncio",
        access_log=False,
        log_level="warning",
    )
