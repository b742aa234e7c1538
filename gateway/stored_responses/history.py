"""Finds the history that a Responses API request continues, and stores its response."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from pydantic import TypeAdapter

from common.error_texts import ErrorText
from common.errors import BackendFailure, InvalidRequest, PreviousNotFound, ResponseNotFound
from gateway.errors import shorten
from gateway.schemas.responses import ResponsesRequest
from gateway.schemas.responses_items import Item, ItemReference
from gateway.stored_responses.store import Record, ResponseStore
from gateway.translate.responses_items import COMPLETED, FAILED, IN_PROGRESS, INCOMPLETE, QUEUED

RESPONSE, CONVERSATION, ITEMS, EVENTS = "resp_", "conv_", "convitems_", "respevents_"
# The number of hexadecimal digits that a record's id shares with the ids of its items.
KEY_CHARS = 48
# Input items are numbered from here on; output items have the numbers below.
FIRST_INPUT = 0x8000
MAX_LINKS = 10_000
PENDING, WHOLE = (QUEUED, IN_PROGRESS), (COMPLETED, INCOMPLETE)
Items = list[dict[str, Any]]

_items: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


class StoredResponses:
    """The stored responses of all owners; each owner reaches only their own.

    Args:
        most_s: the time within which a response in the background ends. One that is in progress
            for longer was lost with the gateway that made it.
    """

    def __init__(self, store: ResponseStore, most_s: float) -> None:
        self._store = store
        self._most_s = most_s

    def close(self) -> None:
        self._store.close()

    async def with_history(self, owner: str, body: ResponsesRequest) -> Items:
        """Put the history that the request continues in front of its own input.

        Returns:
            The request's own input for `keep`, with references replaced by their items; empty if
            nothing is continued and nothing is to be stored.
        Raises:
            InvalidRequest: a response, a conversation or an item is not stored here.
        """
        if body.previous_response_id and body.conversation:
            raise InvalidRequest(ErrorText("previous_or_conversation"), param="conversation")
        goes_on = bool(body.conversation_id or body.previous_response_id) or _refers(body.input)
        if body.store is False and not goes_on:
            return []
        own = await self.resolved(owner, body.input)
        before: Items = []
        if body.conversation_id:
            head = await self._head(owner, body.conversation_id)
            before = await self._before(owner, head.previous, "conversation")
        elif body.previous_response_id:
            await self._require_complete(owner, body.previous_response_id)
            before = await self._before(owner, body.previous_response_id, "previous_response_id")
        if goes_on:
            body.input = _items.validate_python([*before, *own])
        return own

    async def keep(
        self, owner: str, body: ResponsesRequest, own: Items, reply: dict[str, Any]
    ) -> None:
        """Store a response, unless the client does not want it stored.

        A conversation continues with it once it is whole. If the store fails, the client still
        gets its reply, and `reply["store"]` becomes False.
        """
        if body.store is False:
            return
        conversation = body.conversation_id if reply["status"] in WHOLE else ""
        previous = body.previous_response_id or ""
        try:
            head = await self._store.get(owner, conversation) if conversation else None
            if head is not None:
                previous = head.previous
            text = orjson.dumps(reply)
            record = Record(reply["id"], previous, orjson.dumps(own), text)
            await self._store.put(owner, record)
            if head is not None:
                await self._store.put(owner, replace(head, previous=record.id))
        except BackendFailure:
            reply["store"] = False

    async def response(self, owner: str, id: str) -> dict[str, Any]:
        """Return a stored response.

        Raises:
            ResponseNotFound: it is not stored, or belongs to another owner.
        """
        found: dict[str, Any] = orjson.loads((await self._response(owner, id)).response)
        if found["status"] in PENDING and time.time() > found["created_at"] + self._most_s:
            message = str(ErrorText("answer_broken_off"))
            found |= {"status": FAILED, "error": {"code": "server_error", "message": message}}
        return found

    async def keep_events(self, owner: str, id: str, events: Sequence[bytes]) -> None:
        """Store the events of a response, for clients that could not follow it to its end."""
        lines = b"\n".join(events)
        with contextlib.suppress(BackendFailure):
            await self._store.put(owner, Record(_events_id(id), "", lines, b""))

    async def events(self, owner: str, id: str) -> list[bytes]:
        """Return the stored events of a response.

        Raises:
            ResponseNotFound: it is not stored, or belongs to another owner.
            InvalidRequest: it was not streamed in the background.
        """
        await self._response(owner, id)
        record = await self._store.get(owner, _events_id(id))
        if record is None:
            raise InvalidRequest(ErrorText("response_has_no_events"), param="stream")
        return record.input.split(b"\n")

    async def input_items(self, owner: str, id: str) -> Items:
        """Return the response's own input, each item with an id, in order.

        Raises:
            ResponseNotFound: it is not stored, or belongs to another owner.
        """
        return with_ids(await self._response(owner, id))

    async def delete_response(self, owner: str, id: str) -> None:
        """Delete a stored response.

        Raises:
            ResponseNotFound: it is not stored, or belongs to another owner.
        """
        if not id.startswith(RESPONSE) or not await self._store.delete(owner, id):
            raise ResponseNotFound(ErrorText("response_not_kept", id=shorten(id)))
        await self._store.delete(owner, _events_id(id))

    async def conversation(self, owner: str, id: str) -> Record:
        """Return the record of a conversation.

        Raises:
            ResponseNotFound: it is not stored, or belongs to another owner.
        """
        record = await self._store.get(owner, id) if id.startswith(CONVERSATION) else None
        if record is None:
            raise ResponseNotFound(ErrorText("conversation_not_kept", id=shorten(id)))
        return record

    async def records(self, owner: str, id: str, param: str) -> list[Record]:
        """Return the records of all turns up to the record `id`, including it, in order.

        Raises:
            PreviousNotFound: one of them is not stored any more.
        """
        turns: list[Record] = []
        while id and len(turns) < MAX_LINKS:
            record = await self._store.get(owner, id)
            if record is None:
                raise _not_kept(id, param)
            turns.append(record)
            id = record.previous
        return turns[::-1]

    async def resolved(self, owner: str, items: str | Sequence[Item]) -> Items:
        """Return the items as JSON, with references replaced by the items that they refer to.

        Raises:
            PreviousNotFound: an item is not stored.
        """
        if isinstance(items, str):
            return [{"type": "message", "role": "user", "content": items}]
        own: Items = []
        for at, item in enumerate(items):
            if isinstance(item, ItemReference):
                own.append(await self._referred(owner, item.id, f"input[{at}]"))
            else:
                own.append(item.model_dump(exclude_none=True))
        return own

    async def _require_complete(self, owner: str, id: str) -> None:
        record = await self._store.get(owner, id) if id.startswith(RESPONSE) else None
        if record is None:
            raise _not_kept(id, "previous_response_id")
        if orjson.loads(record.response)["status"] in PENDING:
            said = ErrorText("response_in_progress", id=shorten(id))
            raise InvalidRequest(said, param="previous_response_id")

    async def _response(self, owner: str, id: str) -> Record:
        record = await self._store.get(owner, id) if id.startswith(RESPONSE) else None
        if record is None:
            raise ResponseNotFound(ErrorText("response_not_kept", id=shorten(id)))
        return record

    async def _head(self, owner: str, id: str) -> Record:
        try:
            return await self.conversation(owner, id)
        except ResponseNotFound as error:
            raise PreviousNotFound(error.message, param="conversation") from None

    async def _before(self, owner: str, id: str, param: str) -> Items:
        """Return the items of all turns up to the record `id`, including its own."""
        turns = await self.records(owner, id, param)
        return [item for turn in turns for item in [*orjson.loads(turn.input), *output_of(turn)]]

    async def _referred(self, owner: str, id: str, where: str) -> dict[str, Any]:
        key = id.rpartition("_")[2][:KEY_CHARS]
        record = None
        for kind in (RESPONSE, ITEMS):
            record = record or await self._store.get(owner, f"{kind}{key}")
        items = [] if record is None else [*output_of(record), *with_ids(record)]
        found = next((item for item in items if item.get("id") == id), None)
        if found is None:
            raise PreviousNotFound(
                ErrorText("item_not_kept", id=shorten(id)),
                param=where,
                suggestions=(ErrorText("send_item"),),
            )
        return found


def _refers(items: str | Sequence[Item]) -> bool:
    return any(isinstance(item, ItemReference) for item in items)


def _events_id(id: str) -> str:
    return f"{EVENTS}{id.removeprefix(RESPONSE)}"


def _not_kept(id: str, param: str) -> PreviousNotFound:
    return PreviousNotFound(
        ErrorText("response_not_kept", id=shorten(id)),
        param=param,
        suggestions=(ErrorText("send_all_input"),),
    )


def output_of(record: Record) -> Items:
    """Return the items of a response's answer; none of another record."""
    if not record.id.startswith(RESPONSE):
        return []
    found: Items = orjson.loads(record.response)["output"]
    return found


def with_ids(record: Record) -> Items:
    """Return a record's input items with ids: their own, or else ids derived from the record's."""
    key = record.id.partition("_")[2]
    items: Items = orjson.loads(record.input)
    return [
        {"id": f"item_{key}{FIRST_INPUT + number:04x}"} | item for number, item in enumerate(items)
    ]
