"""Fields that more than one endpoint takes."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    model_validator,
)

from gateway.body import depth_of
from gateway.schemas.keep_alive import KeepAlive
from protos.errors import InvalidRequest, UnsupportedParameter

MAX_JSON_DEPTH = 32
MAX_FIELDS = 128
MAX_TOKENS = 2**20
MAX_SEED = 2**63 - 1


def _shallow(value: Any) -> Any:
    if depth_of(value, MAX_JSON_DEPTH) > MAX_JSON_DEPTH:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")
    return value


FreeJson = Annotated[dict[str, Any], AfterValidator(_shallow)]
ModelId = Annotated[str, Field(max_length=256)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenKey = Annotated[str, Field(pattern=r"^\d{1,7}$")]
TokenId = Annotated[int, Field(ge=0, le=2**24)]


def at_most(n: int) -> BeforeValidator:
    """Bounds a mapping before its entries are looked at: each wrong one costs a complaint."""

    def few(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > n:
            raise ValueError(f"has {len(value)} entries; at most {n} are taken")
        return value

    return BeforeValidator(few)


def one_of_kinds(what: str, *known: str, other: str = "other") -> Discriminator:
    """Chooses the union's member by the value's type: its tag is that and `what`.

    No tag is spelled like a field: in a complaint's path one could not tell them apart.

    Args:
        other: instead of a type that is not `known`.
    """

    def kind(value: Any) -> str:
        named = value.get("type") if isinstance(value, dict) else None
        return f"{named if named in known else other}_{what}"

    return Discriminator(kind)


class ApiModel(BaseModel):
    """Strict types (`true` is no number), and a field nobody knows is refused by name."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    # Fields that the reply repeats: that is their effect.
    echoed: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        # 150,000 unknown fields would hold the event loop for a second.
        if len(value) > MAX_FIELDS:
            raise ValueError(f"has {len(value)} fields; at most {MAX_FIELDS} are taken")
        # null asks for nothing, also under a name that nobody knows: SDKs send back whole objects.
        return {k: v for k, v in value.items() if v is not None or k in cls.model_fields}


class StreamOptions(ApiModel):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(ApiModel):
    """How tokens are chosen. Unset fields take the server's defaults."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**20)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-MAX_SEED, le=MAX_SEED)] | None = None
    logit_bias: Annotated[dict[TokenKey, Bias], at_most(300)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
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
            raise InvalidRequest("stream_options needs stream: true", param="stream_options")
        return self


NO_EFFECT = (
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "verbosity",
    "prediction",
    "priority",
    "max_chunks_per_doc",
)


def ignored_fields(body: ApiModel) -> list[str]:
    """Names of fields that the client set and that change nothing, for the response header."""
    sent = body.model_fields_set - body.echoed
    found = [n for n in NO_EFFECT if n in sent and getattr(body, n)]
    if getattr(body, "parallel_tool_calls", None) is not None and not getattr(body, "tools", None):
        found.append("parallel_tool_calls")
    options: StreamOptions | None = getattr(body, "stream_options", None)
    if options is not None and options.include_obfuscation:
        found.append("stream_options.include_obfuscation")
    return sorted(found)


def refuse_moved(value: Any, moved: Mapping[str, str]) -> None:
    """Raises:
    UnsupportedParameter: `value` has a parameter of another API; says what there is instead.
    """
    for name, instead in moved.items():
        if isinstance(value, dict) and value.get(name) is not None:
            raise UnsupportedParameter(
                f"unknown parameter: {name}", param=name, suggestions=(f"use {instead}",)
            )
