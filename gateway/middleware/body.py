"""Parses the body of a request: JSON, then one of the schemas, or a 400 that names the field."""

from difflib import get_close_matches
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from common.error_texts import ErrorText, known_text
from common.errors import InvalidRequest, UnsupportedParameter
from gateway.errors import shorten

T = TypeVar("T", bound=BaseModel)
FieldPath = tuple[int | str, ...]

MAX_FAULT = 200


async def parse(request: Request, schema: type[T]) -> T:
    """The body as `schema`.

    Raises:
        InvalidRequest: the body is no JSON object (NaN, lone surrogates and endless nesting are
            not JSON), or a field is wrong; `param` names it.
        UnsupportedParameter: a field is unknown.
    """
    try:
        # Not `request.body()`, which the request would keep for as long as it lasts.
        document = orjson.loads(b"".join([chunk async for chunk in request.stream()]))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(ErrorText("body_not_json", detail=shorten(error.msg))) from None
    if not isinstance(document, dict):
        raise InvalidRequest(ErrorText("body_not_object"))
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise invalid(error, document, schema) from None


def invalid(error: ValidationError, document: Any, schema: type[BaseModel]) -> InvalidRequest:
    """What a client is told of a document that is not one of `schema`."""
    return _first(error.errors(include_url=False, include_input=False), document, schema)


def _first(found: list[ErrorDetails], document: Any, schema: type[BaseModel]) -> InvalidRequest:
    """The most likely mistake of the client.

    Every member of a union reports errors. The member that the client meant reports something else
    than a wrong type (a length, a bound), has the fewest errors, or matched the longest path.
    """
    members: dict[FieldPath, list[tuple[FieldPath, ErrorDetails]]] = {}
    for error in found:
        path, member = _locate(error, document)
        members.setdefault((*path[:1], *member), []).append((path, error))
    candidates = min(members.values(), key=_likelihood)
    path, error = candidates[0]
    param = spell(path)
    if error["type"] == "extra_forbidden":
        return UnsupportedParameter(
            ErrorText("unknown_parameter", name=param),
            param=param,
            suggestions=_known_instead(param, schema) if len(path) == 1 else (),
        )
    text = ErrorText("field_wrong", field=param or "body", fault=_fault(error))
    return InvalidRequest(text, param=param or None)


def _known_instead(name: str, schema: type[BaseModel]) -> tuple[ErrorText, ...]:
    """The parameter that was most likely meant, if one is near, and all that there are."""
    foreign: frozenset[str] = getattr(schema, "foreign", frozenset())
    known = sorted(schema.model_fields.keys() - foreign)
    nearest = get_close_matches(name, known, n=1)
    return (
        *(ErrorText("use_instead", instead=near) for near in nearest),
        ErrorText("known_parameters", names=", ".join(known)),
    )


def _fault(error: ErrorDetails) -> str:
    """The text of an error, by one of our validators or by pydantic.

    The catalogue has pydantic's usual errors by their type and context.
    """
    context = error.get("ctx", {})
    if isinstance(raised := context.get("error"), ValueError):
        text = next(iter(raised.args), "")
        return text if isinstance(text, ErrorText) else shorten(str(text), MAX_FAULT)
    is_singular = 1 in (context.get("min_length"), context.get("max_length"))
    kind = f"pydantic_{error['type']}" + ("_one" if is_singular else "")
    ours, theirs = known_text(kind, context), error["msg"]
    return ours if ours == theirs and len(theirs) <= MAX_FAULT else shorten(theirs, MAX_FAULT)


def _likelihood(errors: list[tuple[FieldPath, ErrorDetails]]) -> tuple[bool, int, int, int]:
    """A sort key; the smallest is the likeliest."""
    path, error = errors[0]
    place = next((step for step in reversed(path) if isinstance(step, int)), 0)
    return error["type"].endswith("_type"), len(errors), -len(path), -place


def _locate(error: ErrorDetails, document: Any) -> tuple[FieldPath, FieldPath]:
    """The path of the error in `document`, and pydantic's names of union members on that path."""
    path: list[int | str] = []
    member: list[int | str] = []
    here = document
    for step in error["loc"]:
        inside = (isinstance(here, dict) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and step < len(here)
        )
        if inside:
            here = here[step]
            path.append(step)
        elif error["type"] == "missing" and step == error["loc"][-1]:
            path.append(step)
        else:
            member.append(step)
    return tuple(path), tuple(member)


def spell(path: FieldPath) -> str:
    """`("messages", 0, "role")` as `messages[0].role`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shorten(part)}" if text else part
    return shorten(text)


def depth_of(value: Any, limit: int) -> int:
    """Nesting of a decoded JSON value, counted no further than `limit` + 1."""
    level, depth = [value], 0
    while level and depth <= limit:
        inner = [v for v in level if isinstance(v, dict | list)]
        level = [child for v in inner for child in (v.values() if isinstance(v, dict) else v)]
        depth += bool(inner)
    return depth
