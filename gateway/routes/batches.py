"""`/v1/files` and `/v1/batches`: requests that may wait, in OpenAI's form."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from common.error_texts import ErrorText
from common.errors import InvalidRequest, PermissionDenied
from gateway.batches.records import OPEN, Batch, FileRecord
from gateway.batches.store import BatchStore, new_id
from gateway.errors import json_response, shorten
from gateway.keys.endpoints import may_call, need_of
from gateway.middleware.body import parse
from gateway.middleware.request_context import context_of
from gateway.openapi import takes
from gateway.schemas.batches import BatchRequest
from gateway.services import services_of

WINDOW_S = 24 * 3600
USUAL_PAGE, MOST_PAGE = 20, 100
PURPOSE = "batch"
CONTENT = "application/octet-stream"
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"const": PURPOSE},
                    },
                }
            }
        },
    }
}

router = APIRouter()


@router.post("/v1/files", openapi_extra=_FORM)
async def upload_file(request: Request) -> Response:
    """Keep a JSONL file of requests, for a batch."""
    store, owner = _store(request)
    async with _form(request) as form:
        source = form.get("file")
        if not isinstance(source, UploadFile):
            raise InvalidRequest(ErrorText("file_missing"), param="file")
        if form.get("purpose") != PURPOSE:
            raise InvalidRequest(ErrorText("purpose_unsupported"), param="purpose")
        record = FileRecord(
            id=new_id("file-"),
            owner=owner,
            filename=shorten(source.filename or "requests.jsonl", 200),
            purpose=PURPOSE,
            n_bytes=0,
            created_at=int(time.time()),
        )
        await asyncio.to_thread(store.add, record, source.file)
    return json_response(record.shown())


@router.get("/v1/files")
async def list_files(request: Request) -> Response:
    """The client's files, the newest first."""
    store, owner = _store(request)
    own = [record for record in store.files.values() if record.owner == owner]
    return json_response(_page(request, [record.shown() for record in own]))


@router.get("/v1/files/{file_id}")
async def get_file(request: Request, file_id: str) -> Response:
    """One file's record."""
    store, owner = _store(request)
    return json_response(store.file(owner, file_id).shown())


@router.get(
    "/v1/files/{file_id}/content",
    openapi_extra={"responses": {"200": {"content": {CONTENT: {}}}}},
)
async def file_content(request: Request, file_id: str) -> Response:
    """What is in a file."""
    store, owner = _store(request)
    record = store.file(owner, file_id)
    return FileResponse(store.content(record.id), media_type=CONTENT)


@router.delete("/v1/files/{file_id}")
async def delete_file(request: Request, file_id: str) -> Response:
    """Delete a file; one of a batch that is not over stays."""
    store, owner = _store(request)
    record = store.file(owner, file_id)
    if any(b.input_file_id == record.id and b.status in OPEN for b in store.batches.values()):
        raise InvalidRequest(ErrorText("file_in_use"), param="file_id")
    await asyncio.to_thread(store.delete_file, record)
    return json_response({"id": record.id, "object": "file", "deleted": True})


@router.post("/v1/batches", openapi_extra=takes(BatchRequest))
async def create_batch(request: Request) -> Response:
    """Let the requests of a file be answered while nobody else asks."""
    store, owner = _store(request)
    body = await parse(request, BatchRequest)
    key = context_of(request.scope).key
    group = need_of("POST", body.endpoint).group
    if key is not None and not key.admin and not may_call(key.endpoints, group):
        raise PermissionDenied(ErrorText("endpoint_forbidden", scope=group), param="endpoint")
    now = int(time.time())
    batch = Batch(
        id=new_id("batch_"),
        owner=owner,
        endpoint=body.endpoint,
        input_file_id=store.file(owner, body.input_file_id).id,
        completion_window=body.completion_window,
        created_at=now,
        expires_at=now + WINDOW_S,
        output_file_id=new_id("file-"),
        error_file_id=new_id("file-"),
        metadata=body.metadata,
    )
    services_of(request).batches.changed(batch)
    return _shown(store, batch)


@router.get("/v1/batches")
async def list_batches(request: Request) -> Response:
    """The client's batches, the newest first."""
    store, owner = _store(request)
    own = [batch for batch in store.batches.values() if batch.owner == owner]
    found = [batch.shown(store.files.__contains__) for batch in own]
    return json_response(_page(request, found))


@router.get("/v1/batches/{batch_id}")
async def get_batch(request: Request, batch_id: str) -> Response:
    """A batch, and how far it is."""
    store, owner = _store(request)
    return _shown(store, store.batch(owner, batch_id))


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(request: Request, batch_id: str) -> Response:
    """Make no more requests of a batch; what was answered becomes its files."""
    store, owner = _store(request)
    batch = store.batch(owner, batch_id)
    if batch.status not in OPEN:
        raise InvalidRequest(ErrorText("batch_is_over", status=batch.status))
    if batch.status != "cancelling":
        batch.status = "cancelling"
        batch.times["cancelling_at"] = int(time.time())
        services_of(request).batches.changed(batch)
    return _shown(store, batch)


def _store(request: Request) -> tuple[BatchStore, str]:
    """The store, and the owner of what this client may see of it."""
    key = context_of(request.scope).key
    return services_of(request).batches.store, "" if key is None else key.client


def _shown(store: BatchStore, batch: Batch) -> Response:
    return json_response(batch.shown(store.files.__contains__))


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """The fields of a multipart body, whose files are closed at the end.

    Raises:
        InvalidRequest: the body is none.
    """
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=8)
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError) as error:
        detail = shorten(getattr(error, "message", str(error)))
        raise InvalidRequest(ErrorText("form_wrong", detail=detail)) from None
    try:
        yield form
    finally:
        await form.close()


def _page(request: Request, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The page that `after` and `limit` ask for.

    Raises:
        InvalidRequest: `limit` is not an allowed number.
    """
    asked = request.query_params.get("limit", str(USUAL_PAGE))
    limit = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 6 else 0
    if limit < 1:
        raise InvalidRequest(
            ErrorText("out_of_range", name="limit", low=1, high=MOST_PAGE), param="limit"
        )
    newest = sorted(found, key=lambda one: (one["created_at"], one["id"]), reverse=True)
    ids = [one["id"] for one in newest]
    after = request.query_params.get("after")
    rest = newest[ids.index(after) + 1 :] if after in ids else newest if after is None else []
    page = rest[: min(limit, MOST_PAGE)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(rest) > len(page),
    }
