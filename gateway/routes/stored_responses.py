"""`/v1/responses/{id}`: what is stored for the client that asks."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.errors import json_response
from gateway.middleware.request_context import context_of
from gateway.routes import background
from gateway.routes.item_pages import page
from gateway.services import services_of
from gateway.stored_responses.history import StoredResponses

MOST_EVENTS = 10**9 - 1

router = APIRouter()


@router.get("/v1/responses/{response_id}")
async def get_response(request: Request, response_id: str) -> Response:
    """Return a response as it is; with `stream`, its events behind the one `starting_after`."""
    if request.query_params.get("stream") == "true":
        return await background.follow(request, response_id, _starting_after(request))
    return json_response(await _response(request, response_id))


@router.delete("/v1/responses/{response_id}")
async def delete_response(request: Request, response_id: str) -> Response:
    """Delete a response; responses that continue it can no longer be continued."""
    stored, owner = _stored(request)
    await services_of(request).background.cancel(owner, response_id)
    await stored.delete_response(owner, response_id)
    return json_response({"id": response_id, "object": "response", "deleted": True})


@router.get("/v1/responses/{response_id}/input_items")
async def input_items(request: Request, response_id: str) -> Response:
    """Return the items that a response answers, without those of earlier turns."""
    stored, owner = _stored(request)
    return json_response(page(request, await stored.input_items(owner, response_id)))


@router.post("/v1/responses/{response_id}/cancel")
async def cancel(request: Request, response_id: str) -> Response:
    """End a response in the background, and return it as it is then; one that has ended stays."""
    stored, owner = _stored(request)
    await services_of(request).background.cancel(owner, response_id)
    found = await stored.response(owner, response_id)
    if not found["background"]:
        raise InvalidRequest(ErrorText("nothing_to_cancel"))
    return json_response(found)


async def _response(request: Request, id: str) -> dict[str, Any]:
    stored, owner = _stored(request)
    running = services_of(request).background.find(owner, id)
    if running is None or running.reply.is_whole:
        return await stored.response(owner, id)
    return running.reply.response()


def _starting_after(request: Request) -> int:
    """Return the number of an event; -1 if the client wants all.

    Raises:
        InvalidRequest: `starting_after` is not a number.
    """
    asked = request.query_params.get("starting_after")
    if asked is None:
        return -1
    if not (asked.isascii() and asked.isdecimal() and len(asked) < 10):
        said = ErrorText("out_of_range", name="starting_after", low=0, high=MOST_EVENTS)
        raise InvalidRequest(said, param="starting_after")
    return int(asked)


def _stored(request: Request) -> tuple[StoredResponses, str]:
    return services_of(request).responses, context_of(request.scope).client
