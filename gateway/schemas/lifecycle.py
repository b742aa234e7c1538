"""`POST /v1/models/load`, `/v1/models/unload` and `/v1/requests/cancel`."""

from typing import Annotated

from pydantic import Field

from gateway.schemas.base import ApiModel
from gateway.schemas.keep_alive import KeepAlive


class _ModelRequest(ApiModel):
    model: Annotated[str, Field(min_length=1, max_length=256)]


class UnloadRequest(_ModelRequest):
    force: bool | None = None


class LoadRequest(_ModelRequest):
    keep_alive: KeepAlive | None = None
    context_length: Annotated[int, Field(ge=256, le=1 << 24)] | None = None
    force: bool | None = None
    stream: bool | None = None


class CancelRequest(ApiModel):
    request_id: Annotated[str, Field(min_length=1, max_length=64)]
