"""Request bodies in the generated API description; the routes parse them by themselves."""

from typing import Any

from pydantic import BaseModel


def takes(schema: type[BaseModel]) -> dict[str, Any]:
    """What `openapi_extra` says of a route whose body is `schema`."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
