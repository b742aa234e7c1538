"""How tokens are chosen: fields that chat and completions share."""

from typing import Annotated, Self

from pydantic import (
    Field,
    model_validator,
)

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.base import ApiModel, FreeJson, ModelId, at_most, within
from gateway.schemas.keep_alive import KeepAlive

StopString = Annotated[str, Field(min_length=1, max_length=256)]

Bias = Annotated[float, within("logit_bias")]

TokenKey = Annotated[str, Field(pattern=r"^\d{1,7}$")]


class StreamOptions(ApiModel):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class SamplingFields(ApiModel):
    """How tokens are chosen. Unset fields take the server's defaults."""

    temperature: Annotated[float, within("temperature")] | None = None
    top_p: Annotated[float, within("top_p")] | None = None
    top_k: Annotated[int, within("openai.top_k")] | None = None
    min_p: Annotated[float, within("min_p")] | None = None
    repetition_penalty: Annotated[float, within("repetition_penalty")] | None = None
    frequency_penalty: Annotated[float, within("frequency_penalty")] | None = None
    presence_penalty: Annotated[float, within("presence_penalty")] | None = None
    seed: Annotated[int, within("openai.seed")] | None = None
    logit_bias: Annotated[dict[TokenKey, Bias], at_most(300)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    max_tokens: Annotated[int, within("answer.max_tokens")] | None = None
    n: Annotated[int, within("n")] | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    model: ModelId | None = None
    keep_alive: KeepAlive | None = None
    # Accepted, of no effect here; named in the response header x-ignored-parameters.
    user: Annotated[str, Field(max_length=512)] | None = None
    store: bool | None = None
    metadata: FreeJson | None = None
    service_tier: Annotated[str, Field(max_length=64)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = None
    prompt_cache_options: FreeJson | None = None
    prompt_cache_retention: Annotated[str, Field(max_length=64)] | None = None

    @model_validator(mode="after")
    def _streams_what_has_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest(ErrorText("needs_stream"), param="stream_options")
        return self
