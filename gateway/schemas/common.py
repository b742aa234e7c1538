"""Fields that more than one endpoint takes."""

from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from gateway.body import depth_of
from gateway.schemas.keep_alive import KeepAlive

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


class ApiModel(BaseModel):
    """Strict types (`true` is no number), and a field nobody knows is refused by name."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    # Fields that the reply repeats: that is their effect.
    echoed: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        # 150,000 unknown fields would hold the event loop for a second.
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise ValueError(f"has {len(value)} fields; at most {MAX_FIELDS} are taken")
        return value


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
    prompt_cache_retention: Annotated[str, Field(max_length=64)] | None = None


NO_EFFECT = (
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "verbosity",
    "prediction",
    "priority",
    "max_chunks_per_doc",
)


# Of no effect without the other.
NEEDS = {"parallel_tool_calls": "tools", "stream_options": "stream"}


def ignored_fields(body: ApiModel) -> list[str]:
    """Names of fields that the client set and that change nothing, for the response header."""
    sent = body.model_fields_set - body.echoed
    found = [n for n in NO_EFFECT if n in sent and getattr(body, n)]
    for name, needed in NEEDS.items():
        given = getattr(body, name, None) is not None
        if given and not getattr(body, needed, None):
            found.append(name)
    return sorted(found)
