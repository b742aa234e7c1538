"""`POST /v1/models/pull` and `/v1/models/pull/cancel`."""

from typing import Annotated

from pydantic import Field

from gateway.schemas.base import ApiModel


class CancelPullRequest(ApiModel):
    # A name such as hf.co/org/repo:Q4_K_M, or an address.
    model: Annotated[str, Field(min_length=1, max_length=512)]


class PullRequest(CancelPullRequest):
    stream: bool | None = None
    # Only say what there is, what fits, and what would be downloaded.
    plan_only: bool | None = None
    # Download a model that does not fit, too.
    force: bool | None = None
