"""A request's body: JSON as the API means it, then one of the schemas, or a 400 that says where."""

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from gateway.errors import shorten
from protos.errors import InvalidRequest, UnsupportedParameter

T = TypeVar("T", bound=BaseModel)


async def parse(request: Request, schema: type[T]) -> T:
    """The body as `schema`.

    Raises:
        InvalidRequest: no JSON object (NaN, lone surrogates and endless nesting are no JSON), or
            a field is wrong; `param` names it.
        UnsupportedParameter: a field that nobody here knows.
    """
    raw = await request.body()
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {shorten(error.msg)}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise _first(error.errors(include_url=False, include_input=False), schema) from None


def _first(found: list[ErrorDetails], schema: type[BaseModel]) -> InvalidRequest:
    # Of a union every member complains; the deepest complaint is the one the client meant.
    unknown = next(
        (e for e in found if e["type"] == "extra_forbidden" and len(e["loc"]) == 1), None
    )
    if unknown is not None:
        name = shorten(str(unknown["loc"][0]))
        known = ", ".join(sorted(schema.model_fields))
        return UnsupportedParameter(
            f"unknown parameter: {name}", param=name, suggestions=(f"known are: {known}",)
        )
    worst = max(found, key=lambda e: len(e["loc"]))
    param = path(worst["loc"])
    reason = str(worst.get("ctx", {}).get("error", worst["msg"]))
    return InvalidRequest(f"{param or 'body'}: {shorten(reason, 200)}", param=param or None)


def path(location: tuple[int | str, ...]) -> str:
    """`("messages", 0, "role")` as `messages[0].role`, without pydantic's names of unions."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() and not part.istitle():
            text += f".{part}" if text else part
    return shorten(text)


def depth_of(value: Any, limit: int) -> int:
    """Nesting of a decoded JSON value, counted no further than `limit` + 1."""
    level, depth = [value], 0
    while level and depth <= limit:
        inner = [v for v in level if isinstance(v, dict | list)]
        level = [child for v in inner for child in (v.values() if isinstance(v, dict) else v)]
        depth += bool(inner)
    return depth
