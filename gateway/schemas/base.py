"""What all request bodies are made of: strict models, and types that several fields have."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    model_validator,
)

from common.error_texts import ErrorText
from common.errors import UnsupportedParameter
from common.sampling_ranges import API_RANGES, RANGES
from gateway.middleware.body import depth_of

MAX_JSON_DEPTH = 32

MAX_FIELDS = 128

# Far above what a long session sends, whose bytes the body's limit bounds. 55,000 messages of
# nothing, which are within that, would hold the event loop for a second.
MAX_ENTRIES = 16_384
MAX_TEXT = 2 * 1024 * 1024
MAX_NAME = 512


def _shallow(value: Any) -> Any:
    if depth_of(value, MAX_JSON_DEPTH) > MAX_JSON_DEPTH:
        raise ValueError(ErrorText("nested_deeper", most=MAX_JSON_DEPTH))
    return value


FreeJson = Annotated[dict[str, Any], AfterValidator(_shallow)]

CallName = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
ToolName = Annotated[CallName, Field(pattern=r"^[A-Za-z0-9_.-]+$")]

ModelId = Annotated[str, Field(max_length=256)]

TokenId = Annotated[int, Field(ge=0, le=2**24)]


def at_most(n: int) -> BeforeValidator:
    """Bounds a mapping before its entries are looked at: each wrong one costs a complaint."""

    def few(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > n:
            raise ValueError(ErrorText("too_many_entries", n=len(value), most=n))
        return value

    return BeforeValidator(few)


def one_of_kinds(what: str, *known: str, other: str = "other") -> Discriminator:
    """Chooses the union's member by the value's type: its tag is that and `what`.

    No tag is spelled like a field: in a complaint's path one could not tell them apart.

    Args:
        other: instead of a type that is not `known`.
    """

    def kind(value: Any) -> str:
        # Of what is read, and of what is written.
        is_read = isinstance(value, dict)
        named = value.get("type") if is_read else getattr(value, "type", None)
        return f"{named if named in known else other}_{what}"

    return Discriminator(kind)


def within(name: str) -> Any:
    """The range that a number of that name has in `common.sampling_ranges`."""
    found = (RANGES | API_RANGES)[name]
    return Field(ge=found.low, le=found.high)


class ApiModel(BaseModel):
    """Strict types (`true` is no number), and a field nobody knows is refused by name."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    # Fields that other APIs here ignore; here the reply shows them, which is their effect.
    echoed: ClassVar[frozenset[str]] = frozenset()
    # Names of other servers' fields that are taken; they are no suggestion for a wrong name.
    foreign: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        # 150,000 unknown fields would hold the event loop for a second.
        if len(value) > MAX_FIELDS:
            raise ValueError(ErrorText("too_many_fields", n=len(value), most=MAX_FIELDS))
        if cls.model_config.get("extra") == "allow":
            return value
        # null asks for nothing, also under a name that nobody knows: SDKs send back whole objects.
        return {k: v for k, v in value.items() if v is not None or k in cls.model_fields}


class HistoryModel(ApiModel):
    """A part of a conversation, or of what is offered in it.

    Clients send back replies of this server and of others as they got them, with fields that mean
    nothing here: those are ignored, and named.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Any]


def unknown_inside(value: Any) -> Iterator[str]:
    """Names of fields that history anywhere in `value` has and nobody here knows."""
    if isinstance(value, list):
        for inner in value:
            yield from unknown_inside(inner)
    elif isinstance(value, ApiModel):
        if isinstance(value, HistoryModel):
            yield from (name for name, sent in value.__pydantic_extra__.items() if sent)
        for name in value.model_fields_set:
            yield from unknown_inside(getattr(value, name))


def refuse_moved(value: Any, moved: Mapping[str, str]) -> None:
    """Raises:
    UnsupportedParameter: `value` has a parameter of another API; says what there is instead.
    """
    for name, instead in moved.items():
        if isinstance(value, dict) and value.get(name) is not None:
            raise UnsupportedParameter(
                ErrorText("unknown_parameter", name=name),
                param=name,
                suggestions=(ErrorText("use_instead", instead=instead),),
            )
