"""Conversations of the Responses API: what clients and responses add to them."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from common.error_texts import ErrorText
from common.errors import ResponseNotFound
from gateway.errors import shorten
from gateway.schemas.responses_items import Item
from gateway.stored_responses.history import (
    CONVERSATION,
    ITEMS,
    KEY_CHARS,
    Items,
    StoredResponses,
    output_of,
    with_ids,
)
from gateway.stored_responses.store import Record, ResponseStore


class StoredConversations:
    """The stored conversations of all owners; each owner reaches only their own.

    A conversation's `previous` is its latest response, or the items that its client added last.
    All methods but `begin` raise ResponseNotFound if it is not stored, or belongs to another owner.
    """

    def __init__(self, store: ResponseStore, responses: StoredResponses) -> None:
        self._store = store
        self._responses = responses

    async def begin(
        self, owner: str, items: Sequence[Item], metadata: dict[str, str]
    ) -> dict[str, Any]:
        id = f"{CONVERSATION}{_new_key()}"
        about = {"id": id, "object": "conversation", "created_at": int(time.time())}
        record = Record(id, "", b"[]", orjson.dumps(about | {"metadata": metadata}))
        if items:
            own = await self._responses.resolved(owner, items)
            record = replace(record, previous=(await self._put_items(owner, own)).id)
        await self._store.put(owner, record)
        return _about(record)

    async def about(self, owner: str, id: str) -> dict[str, Any]:
        """Return a conversation's description, without its items."""
        return _about(await self._responses.conversation(owner, id))

    async def change(self, owner: str, id: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Replace a conversation's metadata, and return its description."""
        record = await self._responses.conversation(owner, id)
        changed = orjson.dumps(_about(record) | {"metadata": metadata})
        record = replace(record, response=changed)
        await self._store.put(owner, record)
        return _about(record)

    async def delete(self, owner: str, id: str) -> None:
        """Delete a conversation; its responses stay stored."""
        if not id.startswith(CONVERSATION) or not await self._store.delete(owner, id):
            raise ResponseNotFound(ErrorText("conversation_not_kept", id=shorten(id)))

    async def items(self, owner: str, id: str) -> Items:
        """Return the items of a conversation, in order, each with an id.

        Raises:
            PreviousNotFound: a part of it is not stored any more.
        """
        return await self._items(owner, await self._responses.conversation(owner, id))

    async def item(self, owner: str, id: str, item_id: str) -> dict[str, Any]:
        """Return an item of a conversation.

        Raises:
            ResponseNotFound: it has no such item.
        """
        for item in await self.items(owner, id):
            if item["id"] == item_id:
                return item
        raise _no_item(item_id)

    async def add(self, owner: str, id: str, items: Sequence[Item]) -> Items:
        """Add items to the end of a conversation, and return them with their ids.

        Raises:
            PreviousNotFound: an item that one refers to is not stored.
        """
        own = await self._responses.resolved(owner, items)
        record = await self._responses.conversation(owner, id)
        added = await self._put_items(owner, own, previous=record.previous)
        await self._store.put(owner, replace(record, previous=added.id))
        return with_ids(added)

    async def remove(self, owner: str, id: str, item_id: str) -> dict[str, Any]:
        """Remove an item from a conversation, and return its description; a response that made
        the item keeps it.

        Raises:
            ResponseNotFound: it has no such item.
        """
        record = await self._responses.conversation(owner, id)
        items = await self._items(owner, record)
        left = [item for item in items if item["id"] != item_id]
        if len(left) == len(items):
            raise _no_item(item_id)
        kept = await self._put_items(owner, left)
        await self._store.put(owner, replace(record, previous=kept.id))
        return _about(record)

    async def _items(self, owner: str, conversation: Record) -> Items:
        turns = await self._responses.records(owner, conversation.previous, "conversation")
        return [item for turn in turns for item in [*with_ids(turn), *output_of(turn)]]

    async def _put_items(self, owner: str, items: Items, previous: str = "") -> Record:
        record = Record(f"{ITEMS}{_new_key()}", previous, orjson.dumps(items), b"")
        await self._store.put(owner, record)
        return record


def _about(conversation: Record) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(conversation.response)
    return found


def _new_key() -> str:
    return secrets.token_hex(KEY_CHARS // 2)


def _no_item(id: str) -> ResponseNotFound:
    return ResponseNotFound(ErrorText("item_not_kept", id=shorten(id)))
