"""`/v1/admin/keys`: the keys with rights, for admins; `/v1/usage`: what keys have used."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import filelock
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import BackendFailure, InvalidRequest, KeyNotFound, NotReady
from gateway.errors import json_response, shorten
from gateway.keys import administration as keys
from gateway.keys.key_file import WrongLine
from gateway.keys.ledger import KEPT_DAYS
from gateway.keys.periods import day_named, day_of
from gateway.keys.record import KeyRecord, NewKey, Rights
from gateway.keys.report import as_csv, rows_of
from gateway.keys.sums import PAUSE_S
from gateway.middleware.body import parse
from gateway.middleware.request_context import context_of
from gateway.openapi import takes
from gateway.schemas.keys import KeyRequest
from gateway.services import Services, services_of

T = TypeVar("T")
USUAL_DAYS = 30
CSV = "text/csv"

router = APIRouter()


@router.get("/v1/admin/keys")
async def list_keys(request: Request) -> Response:
    """All keys with rights; secrets are not stored, so none is shown."""
    records = services_of(request).keys.file().records.values()
    return json_response({"object": "list", "data": [keys.described(one) for one in records]})


@router.post("/v1/admin/keys", openapi_extra=takes(KeyRequest))
async def add_key(request: Request) -> Response:
    """Add a key. Its text is in this reply and nowhere else."""
    body = await parse(request, KeyRequest)
    rights = body.changed(Rights())
    made = await _edit(request, lambda path: keys.add_key(path, rights))
    context_of(request.scope).acted_on["key_id"] = made.record.id
    return json_response(_shown(made))


@router.get("/v1/admin/keys/{key_id}")
async def get_key(request: Request, key_id: str) -> Response:
    """One key."""
    return json_response(keys.described(_record(request, key_id)))


@router.post("/v1/admin/keys/{key_id}", openapi_extra=takes(KeyRequest))
async def change_key(request: Request, key_id: str) -> Response:
    """Change the rights that the body names; the key's text stays as it is."""
    body = await parse(request, KeyRequest)
    rights = body.changed(_record(request, key_id))
    changed = await _edit(request, lambda path: keys.change_key(path, key_id, rights))
    return json_response(keys.described(changed))


@router.post("/v1/admin/keys/{key_id}/rotate")
async def rotate_key(request: Request, key_id: str) -> Response:
    """Give a key another text; the old one is refused from now on."""
    return json_response(_shown(await _edit(request, lambda path: keys.rotate_key(path, key_id))))


@router.delete("/v1/admin/keys/{key_id}")
async def revoke_key(request: Request, key_id: str) -> Response:
    """Remove a key; it is refused from now on."""
    await _edit(request, lambda path: keys.revoke_key(path, key_id))
    return json_response({"id": key_id, "object": "key.deleted", "deleted": True})


@router.get("/v1/usage", openapi_extra={"responses": {"200": {"content": {CSV: {}}}}})
async def usage(request: Request) -> Response:
    """What keys have used, by day and model: a key sees its own, an admin all, or that of the key
    `key`. `from` and `to` are dates (the last 30 days), `format` may be csv."""
    services = services_of(request)
    first, last = _days(request)
    sums = services.budgets.sums
    await sums.tell()
    try:
        found = await sums.ledger.report(first, last, _whose(request))
    except OSError as error:
        raise NotReady(ErrorText("usage_not_read"), retry_after_s=PAUSE_S) from error
    rows = rows_of(found, services.keys.alias)
    if request.query_params.get("format") == "csv":
        return Response(as_csv(rows), media_type=CSV)
    return json_response({"object": "list", "data": rows})


def _whose(request: Request) -> str | None:
    """The client whose use is reported; None: of all."""
    own, asked = context_of(request.scope).key, request.query_params.get("key")
    if own is not None and not own.admin:
        return own.client
    return f"key:{asked}" if asked else None


def _days(request: Request) -> tuple[int, int]:
    today = day_of(time.time())
    last = _day(request, "to", today)
    first = _day(request, "from", last - USUAL_DAYS + 1)
    return max(first, last - KEPT_DAYS + 1), last


def _day(request: Request, name: str, default: int) -> int:
    asked = request.query_params.get(name)
    try:
        return default if asked is None else day_named(asked)
    except ValueError:
        raise InvalidRequest(ErrorText("date_wrong", name=name), param=name) from None


def _record(request: Request, key_id: str) -> KeyRecord:
    record = services_of(request).keys.file().records.get(key_id)
    if record is None:
        raise _unknown(key_id)
    return record


def _unknown(key_id: str) -> KeyNotFound:
    return KeyNotFound(ErrorText("key_not_known", id=shorten(key_id)), param="key_id")


async def _edit(request: Request, change: Callable[[Path], T]) -> T:
    """The result of `change` on the key file."""
    path = _path(services_of(request))
    if key_id := request.path_params.get("key_id"):
        context_of(request.scope).acted_on["key_id"] = key_id
    try:
        return await asyncio.to_thread(change, path)
    except keys.UnknownKey as error:
        raise _unknown(str(error.args[0])) from None
    except WrongLine as error:
        raise InvalidRequest(str(error), param="endpoints") from None
    except (OSError, filelock.Timeout) as error:
        raise BackendFailure(ErrorText("keys_not_written")) from error


def _path(services: Services) -> Path:
    if services.keys.path is None:
        raise InvalidRequest(
            ErrorText("keys_not_kept"),
            suggestions=(ErrorText("set_setting", setting="API_KEYS_FILE"),),
        )
    return services.keys.path


def _shown(made: NewKey) -> dict[str, Any]:
    return keys.described(made.record) | {"key": made.text}
