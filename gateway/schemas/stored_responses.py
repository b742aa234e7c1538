"""The bodies of requests to `/v1/conversations`."""

from typing import Annotated

from pydantic import Field

from gateway.schemas.base import MAX_ENTRIES, ApiModel
from gateway.schemas.responses import Metadata
from gateway.schemas.responses_items import Item


class ConversationRequest(ApiModel):
    items: Annotated[list[Item], Field(max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    metadata: Metadata | None = None


class ConversationChange(ApiModel):
    metadata: Metadata | None


class ConversationItems(ApiModel):
    items: Annotated[list[Item], Field(min_length=1, max_length=MAX_ENTRIES, fail_fast=True)]
