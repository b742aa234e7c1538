"""The bodies of `/v1/admin/keys`: the rights that `gateway/keys/record.py` explains."""

from typing import Annotated

import msgspec
from pydantic import Field

from gateway.keys.record import LEAST_PRIORITY, MAX_NAMES, MOST_PRIORITY, Rights
from gateway.schemas.base import ApiModel

Amount = Annotated[int, Field(ge=1, le=10**15)]
Names = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=MAX_NAMES)
]


class LimitsBody(ApiModel):
    requests_per_minute: Amount | None = None
    tokens_per_minute: Amount | None = None
    tokens_per_day: Amount | None = None
    tokens_per_month: Amount | None = None


class KeyRequest(ApiModel):
    alias: Annotated[str, Field(max_length=64, pattern=r"^[\w .@-]*$")] = ""
    models: Names | None = None
    endpoints: Names | None = None
    chat: LimitsBody = LimitsBody()
    embeddings: LimitsBody = LimitsBody()
    concurrent_requests: Annotated[int, Field(ge=1, le=10_000)] | None = None
    priority: Annotated[int, Field(ge=LEAST_PRIORITY, le=MOST_PRIORITY)] = 0
    expires_at: Amount | None = None
    admin: bool = False

    def changed(self, before: Rights) -> Rights:
        """The rights of `before`, with those that the body has instead."""
        given = self.model_dump(include=self.model_fields_set)
        known = {name: getattr(before, name) for name in Rights.__struct_fields__}
        return msgspec.convert(msgspec.to_builtins(known) | given, Rights)
