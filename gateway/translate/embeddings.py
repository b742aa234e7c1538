"""Embedding requests, and vectors as JSON, without running Python code for each number."""

import base64
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.schemas.embeddings import EmbeddingRequest
from protos.y26hkx.v1 import embed_pb2

FLOAT_BYTES = 4
# Bytes of vectors in one part; to write them as floats takes some 5 ms.
PART_BYTES = 200_000
# The contract's input types, by the names of clients.
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
        max_tokens=None if body.truncate_prompt_tokens == -1 else body.truncate_prompt_tokens,
    )


def truncation(
    given: str | bool | None, *, from_start: bool = False
) -> embed_pb2.Truncate.ValueType:
    """
    Args:
        from_start: cut the start if the client does not choose a side.
    """
    if given is None:
        return embed_pb2.TRUNCATE_START if from_start else embed_pb2.TRUNCATE_UNSPECIFIED
    if isinstance(given, bool):
        may = embed_pb2.TRUNCATE_START if from_start else embed_pb2.TRUNCATE_END
        return may if given else embed_pb2.TRUNCATE_NONE
    return embed_pb2.Truncate.Value(f"TRUNCATE_{given.upper()}")


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


def rows(response: embed_pb2.EmbedResponse) -> Iterator[list[float]]:
    """The vectors of a reply, one after the other."""
    row_bytes = response.dimension * FLOAT_BYTES
    view = memoryview(response.vectors)
    for at in range(0, len(view), row_bytes):
        vector: list[float] = list(view[at : at + row_bytes].cast("f"))
        yield vector


def reply_parts(response: embed_pb2.EmbedResponse, encoding: str) -> Iterator[bytes]:
    """The JSON body of a reply, in parts; each takes a few milliseconds to make.

    Args:
        encoding: "float" or "base64".
    """
    row_bytes = response.dimension * FLOAT_BYTES
    view = memoryview(response.vectors)
    n_rows = max(PART_BYTES // row_bytes, 1)
    yield b'{"object":"list","data":['
    between = b""
    for first in range(0, len(view) // row_bytes, n_rows):
        part = view[first * row_bytes : (first + n_rows) * row_bytes]
        rows = [part[at : at + row_bytes] for at in range(0, len(part), row_bytes)]
        data = [
            {"object": "embedding", "index": index, "embedding": _vector(row, encoding)}
            for index, row in enumerate(rows, first)
        ]
        yield between + orjson.dumps(data)[1:-1]
        between = b","
    yield b"]," + orjson.dumps(_about(response))[1:]


def _about(response: embed_pb2.EmbedResponse) -> dict[str, Any]:
    n_tokens = response.usage.prompt_tokens
    body: dict[str, Any] = {
        "model": response.model.id,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        "system_fingerprint": response.model.fingerprint,
    }
    if response.truncated:
        body["truncated"] = list(response.truncated)
    return body


def _vector(row: memoryview, encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(row).decode("ascii")
    return row.cast("f").tolist()
