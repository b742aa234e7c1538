"""`/v1/responses/{id}` and `/v1/conversations`: what is stored for the client that asks."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.errors import json_response
from gateway.middleware.body import parse
from gateway.middleware.request_context import context_of
from gateway.openapi import takes
from gateway.routes import background
from gateway.schemas.stored_responses import ConversationRequest
from gateway.services import services_of
from gateway.stored_responses.history import Items, StoredResponses

MOST_ITEMS, USUAL_ITEMS = 100, 20
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
    return json_response(_page(request, await stored.input_items(owner, response_id)))


@router.post("/v1/responses/{response_id}/cancel")
async def cancel(request: Request, response_id: str) -> Response:
    """End a response in the background, and return it as it is then; one that has ended stays."""
    stored, owner = _stored(request)
    await services_of(request).background.cancel(owner, response_id)
    found = await stored.response(owner, response_id)
    if not found["background"]:
        raise InvalidRequest(ErrorText("nothing_to_cancel"))
    return json_response(found)


@router.post("/v1/conversations", openapi_extra=takes(ConversationRequest))
async def begin_conversation(request: Request) -> Response:
    """Begin a conversation, to which responses are added."""
    body = await parse(request, ConversationRequest)
    stored, owner = _stored(request)
    begun = await stored.begin_conversation(owner, body.items or [], body.metadata or {})
    return json_response(begun)


@router.get("/v1/conversations/{conversation_id}")
async def get_conversation(request: Request, conversation_id: str) -> Response:
    """Return when a conversation began, and its metadata."""
    stored, owner = _stored(request)
    return json_response(await stored.conversation(owner, conversation_id))


@router.delete("/v1/conversations/{conversation_id}")
async def delete_conversation(request: Request, conversation_id: str) -> Response:
    """Delete a conversation; its responses stay stored."""
    stored, owner = _stored(request)
    await stored.delete_conversation(owner, conversation_id)
    gone = {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
    return json_response(gone)


@router.get("/v1/conversations/{conversation_id}/items")
async def conversation_items(request: Request, conversation_id: str) -> Response:
    """Return the items of a conversation."""
    stored, owner = _stored(request)
    return json_response(_page(request, await stored.conversation_items(owner, conversation_id)))


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


def _page(request: Request, items: Items) -> dict[str, Any]:
    """Return the page that `order`, `after` and `limit` ask for; by default the last item is first.

    Raises:
        InvalidRequest: `limit` is not an allowed number of items.
    """
    asked = request.query_params.get("limit", str(USUAL_ITEMS))
    limit = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 4 else 0
    if not 1 <= limit <= MOST_ITEMS:
        said = ErrorText("out_of_range", name="limit", low=1, high=MOST_ITEMS)
        raise InvalidRequest(said, param="limit")
    if request.query_params.get("order") != "asc":
        items = items[::-1]
    after = request.query_params.get("after")
    if after is not None:
        ids = [item["id"] for item in items]
        items = items[ids.index(after) + 1 :] if after in ids else []
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > limit,
    }
