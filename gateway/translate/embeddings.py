"""Embedding requests and their vectors: bytes to JSON with no Python code run per number."""

import base64
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.schemas.embeddings import EmbeddingRequest
from protos.y26hkx.v1 import embed_pb2

FLOAT_BYTES = 4
# The contract's names of what vectors are for.
USES = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "classification": "classification",
    "clustering": "clustering",
}


def embed_request(body: EmbeddingRequest) -> embed_pb2.EmbedRequest:
    return embed_pb2.EmbedRequest(
        model=body.model or "",
        inputs=[_input(item) for item in _items(body)],
        dimensions=body.dimensions,
        truncate=truncation(body.truncate),
        prompt_name=body.prompt_name or "",
        input_type=USES.get(body.input_type or "", ""),
        keep_alive_s=body.keep_alive,
    )


def truncation(
    given: str | bool | None, *, from_start: bool = False
) -> embed_pb2.Truncate.ValueType:
    """
    Args:
        from_start: what is cut where the client only says that something may be.
    """
    if given is None:
        return embed_pb2.TRUNCATE_START if from_start else embed_pb2.TRUNCATE_UNSPECIFIED
    if isinstance(given, bool):
        may = embed_pb2.TRUNCATE_START if from_start else embed_pb2.TRUNCATE_END
        return may if given else embed_pb2.TRUNCATE_NONE
    return embed_pb2.Truncate.Value(f"TRUNCATE_{given.upper()}")


def tokenize_request(
    model: str, texts: Sequence[str], keep_alive_s: float | None
) -> embed_pb2.TokenizeRequest:
    return embed_pb2.TokenizeRequest(model=model, texts=texts, keep_alive_s=keep_alive_s)


def _items(body: EmbeddingRequest) -> list[str | list[int]]:
    given = body.input
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], int):
        return [given]
    return list(given)


def _input(item: str | list[int]) -> embed_pb2.EmbedInput:
    if isinstance(item, str):
        return embed_pb2.EmbedInput(text=item)
    return embed_pb2.EmbedInput(tokens=embed_pb2.TokenIdList(ids=item))


def reply(response: embed_pb2.EmbedResponse, encoding: str) -> bytes:
    """The JSON body of a reply; `encoding` is "float" or "base64"."""
    row_bytes = response.dimension * FLOAT_BYTES
    view = memoryview(response.vectors)
    rows = [view[at : at + row_bytes] for at in range(0, len(view), row_bytes)]
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(row, encoding)}
            for index, row in enumerate(rows)
        ],
        "model": response.model.id,
        "usage": {
            "prompt_tokens": response.usage.prompt_tokens,
            "total_tokens": response.usage.prompt_tokens,
        },
        "system_fingerprint": response.model.fingerprint,
    }
    if response.truncated:
        body["truncated"] = list(response.truncated)
    return orjson.dumps(body)


def _vector(row: memoryview, encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(row).decode("ascii")
    return row.cast("f").tolist()
