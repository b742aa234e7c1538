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
from gateway.schemas.stored_responses import ConversationRequest
from gateway.services import services_of
from gateway.stored_responses.history import Items, StoredResponses

MOST_ITEMS, USUAL_ITEMS = 100, 20

router = APIRouter()


@router.get("/v1/responses/{response_id}")
async def get_response(request: Request, response_id: str) -> Response:
    """Return a stored response."""
    stored, owner = _stored(request)
    return json_response(await stored.response(owner, response_id))


@router.delete("/v1/responses/{response_id}")
async def delete_response(request: Request, response_id: str) -> Response:
    """Delete a response; responses that continue it can no longer be continued."""
    stored, owner = _stored(request)
    await stored.delete_response(owner, response_id)
    return json_response({"id": response_id, "object": "response", "deleted": True})


@router.get("/v1/responses/{response_id}/input_items")
async def input_items(request: Request, response_id: str) -> Response:
    """Return the items that a response answers, without those of earlier turns."""
    stored, owner = _stored(request)
    return json_response(_page(request, await stored.input_items(owner, response_id)))


@router.post("/v1/responses/{response_id}/cancel")
async def cancel(request: Request, response_id: str) -> Response:
    """Refuse to cancel a stored response: it is complete, as none is made in the background."""
    stored, owner = _stored(request)
    await stored.response(owner, response_id)
    raise InvalidRequest(ErrorText("nothing_to_cancel"))


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
