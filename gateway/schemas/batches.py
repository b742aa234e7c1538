"""The body of `POST /v1/batches`."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.schemas.base import ApiModel, at_most

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
Name = Annotated[str, Field(max_length=64)]
Value = Annotated[str, Field(max_length=512)]


class BatchRequest(ApiModel):
    input_file_id: Annotated[str, Field(min_length=1, max_length=64)]
    endpoint: Endpoint
    completion_window: Literal["24h"] = "24h"
    metadata: Annotated[dict[Name, Value], at_most(16)] | None = None
