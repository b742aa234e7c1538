"""The OpenAPI document: the routes parse bodies themselves, so their schemas are added here."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

COMPONENT = "#/components/schemas/{model}"


def takes(schema: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body is `schema`."""
    reference = {"$ref": COMPONENT.format(model=schema.__name__)}
    content = {"application/json": {"schema": reference}}
    return {"requestBody": {"required": True, "content": content}}


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
    schemas |= found["$defs"]
    return document
