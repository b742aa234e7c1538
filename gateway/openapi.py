"""The OpenAPI document: the routes parse bodies and answer by themselves, so the schemas of both
are added here."""

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.openapi_answers import LINES, STREAM, error_answers, error_schemas

COMPONENT = "#/components/schemas/{model}"


def takes(schema: type[BaseModel], *, streams: bool | Literal["lines"] = False) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body is `schema`.

    Args:
        streams: it responds with server-sent events if the body asks for them, or with lines of
            JSON unless the body asks for one object.
    """
    reference = {"$ref": COMPONENT.format(model=schema.__name__)}
    content: dict[str, Any] = {"application/json": {"schema": reference}}
    described: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if streams:
        content = LINES if streams == "lines" else STREAM
        described["responses"] = {"200": {"content": content}}
    return described


def describe(
    app: FastAPI, routes: Sequence[APIRoute], bodies: Sequence[type[BaseModel]]
) -> dict[str, Any]:
    """The OpenAPI document of `app`, with the schemas of all `bodies` that its `routes` accept."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=routes
    )
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    # In one call, because models of different APIs may share a name.
    _, found = models_json_schema([(body, "validation") for body in bodies], ref_template=COMPONENT)
    # Of FastAPI's own validation, which no route here goes through.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= found["$defs"] | error_schemas()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            answers.pop("422", None)
            answers |= error_answers(path, method, operation)
    return document
