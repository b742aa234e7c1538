"""`/v1/conversations`: what clients and their responses add to them."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import json_response
from gateway.middleware.body import parse
from gateway.middleware.request_context import context_of
from gateway.openapi import takes
from gateway.routes.item_pages import listed, page
from gateway.schemas.stored_responses import (
    ConversationChange,
    ConversationItems,
    ConversationRequest,
)
from gateway.services import services_of
from gateway.stored_responses.conversations import StoredConversations

ONE = "/v1/conversations/{conversation_id}"

router = APIRouter()


@router.post("/v1/conversations", openapi_extra=takes(ConversationRequest))
async def begin(request: Request) -> Response:
    """Begin a conversation, to which responses are added."""
    body = await parse(request, ConversationRequest)
    stored, owner = _stored(request)
    return json_response(await stored.begin(owner, body.items or [], body.metadata or {}))


@router.get(ONE)
async def get(request: Request, conversation_id: str) -> Response:
    """Return when a conversation began, and its metadata."""
    stored, owner = _stored(request)
    return json_response(await stored.about(owner, conversation_id))


@router.post(ONE, openapi_extra=takes(ConversationChange))
async def change(request: Request, conversation_id: str) -> Response:
    """Replace a conversation's metadata."""
    body = await parse(request, ConversationChange)
    stored, owner = _stored(request)
    return json_response(await stored.change(owner, conversation_id, body.metadata or {}))


@router.delete(ONE)
async def delete(request: Request, conversation_id: str) -> Response:
    """Delete a conversation; its responses stay stored."""
    stored, owner = _stored(request)
    await stored.delete(owner, conversation_id)
    gone = {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
    return json_response(gone)


@router.get(f"{ONE}/items")
async def items(request: Request, conversation_id: str) -> Response:
    """Return the items of a conversation."""
    stored, owner = _stored(request)
    return json_response(page(request, await stored.items(owner, conversation_id)))


@router.post(f"{ONE}/items", openapi_extra=takes(ConversationItems))
async def add_items(request: Request, conversation_id: str) -> Response:
    """Add items to the end of a conversation."""
    body = await parse(request, ConversationItems)
    stored, owner = _stored(request)
    return json_response(listed(await stored.add(owner, conversation_id, body.items)))


@router.get(f"{ONE}/items/{{item_id}}")
async def get_item(request: Request, conversation_id: str, item_id: str) -> Response:
    """Return an item of a conversation."""
    stored, owner = _stored(request)
    return json_response(await stored.item(owner, conversation_id, item_id))


@router.delete(f"{ONE}/items/{{item_id}}")
async def delete_item(request: Request, conversation_id: str, item_id: str) -> Response:
    """Remove an item from a conversation; the response that made it keeps it."""
    stored, owner = _stored(request)
    return json_response(await stored.remove(owner, conversation_id, item_id))


def _stored(request: Request) -> tuple[StoredConversations, str]:
    return services_of(request).conversations, context_of(request.scope).client
