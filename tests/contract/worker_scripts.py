"""What a scripted worker answers: events, and whole scripts made of them."""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from protos.y26hkx.v1 import chat_pb2, common_pb2, embed_pb2, worker_pb2

CHAT_ID, EMBED_ID = "qwen-scripted", "embed-scripted"
CHAT = common_pb2.ServedModel(id=CHAT_ID, backend="script", fingerprint="fp_00000000000000c0")
EMBED = common_pb2.ServedModel(id=EMBED_ID, backend="script", fingerprint="fp_00000000000000e0")
DIMENSION = 4
PROMPT_TOKENS = 3

Generate = Callable[[chat_pb2.GenerateRequest], AsyncIterator[chat_pb2.GenerateEvent]]
Embed = Callable[[embed_pb2.EmbedRequest], Awaitable[embed_pb2.EmbedResponse]]
Load = Callable[[worker_pb2.LoadModelRequest], AsyncIterator[worker_pb2.LoadProgress]]


def queued(position: int, reason: str = "queue") -> chat_pb2.GenerateEvent:
    return chat_pb2.GenerateEvent(queued=chat_pb2.Queued(position=position, reason=reason))


def started(**fields: Any) -> chat_pb2.GenerateEvent:
    begun = chat_pb2.Started(model=CHAT, prompt_tokens=PROMPT_TOKENS, **fields)
    return chat_pb2.GenerateEvent(started=begun)


def delta(text: str = "", choice: int = 0, **fields: Any) -> chat_pb2.GenerateEvent:
    piece = chat_pb2.Delta(choice=choice, text=text, n_tokens=1, **fields)
    return chat_pb2.GenerateEvent(delta=piece)


def finished(
    n_tokens: int, n: int = 1, reason: str = "REASON_LENGTH", cached: int = 0
) -> chat_pb2.GenerateEvent:
    value = chat_pb2.ChoiceEnd.Reason.Value(reason)
    usage = common_pb2.Usage(
        prompt_tokens=PROMPT_TOKENS, completion_tokens=n_tokens, cached_tokens=cached
    )
    ends = [chat_pb2.ChoiceEnd(choice=number, reason=value) for number in range(n)]
    return chat_pb2.GenerateEvent(finished=chat_pb2.Finished(choices=ends, usage=usage))


async def count_up(request: chat_pb2.GenerateRequest) -> AsyncIterator[chat_pb2.GenerateEvent]:
    """`max_tokens` tokens "0 1 2 …" for every choice, at once."""
    n = request.n or 1
    yield started()
    for token in range(request.max_tokens):
        for choice in range(n):
            yield delta(f"{token} ", choice)
    yield finished(request.max_tokens * n, n)


async def row_numbers(request: embed_pb2.EmbedRequest) -> embed_pb2.EmbedResponse:
    """The vector of input i is (i, 1, 0, 0)."""
    n = len(request.inputs)
    rows = b"".join(struct.pack("<4f", float(i), 1.0, 0.0, 0.0) for i in range(n))
    return embed_pb2.EmbedResponse(
        model=EMBED,
        vectors=rows,
        dimension=DIMENSION,
        token_counts=[2] * n,
        usage=common_pb2.Usage(prompt_tokens=2 * n),
    )


def loading(fraction: float, stage: str) -> worker_pb2.LoadProgress:
    state = worker_pb2.MODEL_STATE_LOADING
    return worker_pb2.LoadProgress(state=state, fraction=fraction, stage=stage)


async def load_in_two_steps(
    request: worker_pb2.LoadModelRequest,
) -> AsyncIterator[worker_pb2.LoadProgress]:
    yield loading(0.1, "starting")
    yield loading(0.5, "weights")
    yield worker_pb2.LoadProgress(state=worker_pb2.MODEL_STATE_READY, fraction=1)
