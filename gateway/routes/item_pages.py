"""Lists of the Responses API's items, and pages of them."""

from typing import Any

from starlette.requests import Request

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.stored_responses.history import Items

MOST_ITEMS, USUAL_ITEMS = 100, 20


def page(request: Request, items: Items) -> dict[str, Any]:
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
    return listed(items[:limit], has_more=len(items) > limit)


def listed(items: Items, *, has_more: bool = False) -> dict[str, Any]:
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
