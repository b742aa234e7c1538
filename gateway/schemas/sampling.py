"""The fields that say how tokens are chosen, which chat and completions share."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.base import MAX_FIELDS, ApiModel, FreeJson, ModelId, at_most, within
from gateway.schemas.keep_alive import KeepAlive

StopString = Annotated[str, Field(min_length=1, max_length=256)]

# llama.cpp's clients send -1 for as many tokens as fit.
NO_LIMIT = -1


def _limit(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    return value if type(value) is int and value == NO_LIMIT else handler(value)


OrNoLimit = WrapValidator(_limit)
TokenLimit = Annotated[int, within("answer.max_tokens"), OrNoLimit]


def _without_empty(value: Any) -> Any:
    """Drop empty stop strings: forms send them for empty fields, and they can stop nothing."""
    if value == "":
        return None
    return [each for each in value if each != ""] if isinstance(value, list) else value


Stops = Annotated[
    StopString | Annotated[list[StopString], Field(max_length=16)] | None,
    BeforeValidator(_without_empty),
]

Bias = Annotated[float, within("logit_bias")]

TokenKey = Annotated[str, Field(pattern=r"^\d{1,7}$")]


class StreamOptions(ApiModel):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


# Names that other servers have for fields of ours.
SAME_AS = {
    "repeat_penalty": "repetition_penalty",
    "random_seed": "seed",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
}
# Fields for other engines: how to load a model, and samplers that do not exist here.
HINTS = frozenset(
    {
        "add_special_tokens",
        "backend_sampling",
        "cache_prompt",
        "draft_model",
        "dry_allowed_length",
        "dry_base",
        "dry_multiplier",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "dynatemp_exponent",
        "dynatemp_range",
        "early_stopping",
        "f16_kv",
        "id_slot",
        "include_stop_str_in_output",
        "length_penalty",
        "low_vram",
        "main_gpu",
        "min_keep",
        "mirostat",
        "mirostat_eta",
        "mirostat_tau",
        "n_indent",
        "n_keep",
        "num_batch",
        "num_ctx",
        "num_gpu",
        "num_keep",
        "num_thread",
        "penalize_newline",
        "post_sampling_probs",
        "reasoning_format",
        "repeat_last_n",
        "return_progress",
        "return_tokens",
        "samplers",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "t_max_predict_ms",
        "tfs_z",
        "timings_per_token",
        "top_n_sigma",
        "ttl",
        "typ_p",
        "typical_p",
        "use_mlock",
        "use_mmap",
        "xtc_probability",
        "xtc_threshold",
    }
)


UNUSED = frozenset(
    {
        "include_reasoning",
        "min_tokens",
        "return_token_ids",
        "return_tokens_as_token_ids",
        "separate_reasoning",
        "stream_reasoning",
        "use_beam_search",
    }
)

# The fields in Ollama's `options` that have an effect, under any of their names.
OPTIONS = frozenset(
    {
        "frequency_penalty",
        "max_tokens",
        "min_p",
        "presence_penalty",
        "repetition_penalty",
        "seed",
        "stop",
        "temperature",
        "top_k",
        "top_p",
    }
)


def in_our_names(value: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the values of other names under ours, unless ours are set too."""
    found = dict(value)
    for theirs, ours in SAME_AS.items():
        if found.get(ours) is None and value.get(theirs) is not None:
            found[ours] = value[theirs]
    options = value.get("options")
    for name, sent in options.items() if isinstance(options, dict) else ():
        meant = SAME_AS.get(name, name)
        if meant in OPTIONS and found.get(meant) is None:
            found[meant] = sent
    return found


class OtherNames(ApiModel):
    """Fields that clients of Ollama, llama.cpp, vLLM, LM Studio and Mistral send to any server."""

    foreign: ClassVar[frozenset[str]] = HINTS | SAME_AS.keys() | UNUSED | {"options"}

    # Clients of vLLM, SGLang and OpenRouter send these to say that they want what is done anyway.
    min_tokens: Literal[0] | None = None
    use_beam_search: Literal[False] | None = None
    return_token_ids: Literal[False] | None = None
    return_tokens_as_token_ids: Literal[False] | None = None
    include_reasoning: Literal[True] | None = None
    separate_reasoning: Literal[True] | None = None
    stream_reasoning: Literal[True] | None = None
    options: FreeJson | None = None
    repeat_penalty: float | None = None
    random_seed: int | None = None
    n_predict: int | None = None
    num_predict: int | None = None
    add_special_tokens: Any = None
    backend_sampling: Any = None
    cache_prompt: Any = None
    draft_model: Any = None
    dry_allowed_length: Any = None
    dry_base: Any = None
    dry_multiplier: Any = None
    dry_penalty_last_n: Any = None
    dry_sequence_breakers: Any = None
    dynatemp_exponent: Any = None
    dynatemp_range: Any = None
    early_stopping: Any = None
    f16_kv: Any = None
    id_slot: Any = None
    include_stop_str_in_output: Any = None
    length_penalty: Any = None
    low_vram: Any = None
    main_gpu: Any = None
    min_keep: Any = None
    mirostat: Any = None
    mirostat_eta: Any = None
    mirostat_tau: Any = None
    n_indent: Any = None
    n_keep: Any = None
    num_batch: Any = None
    num_ctx: Any = None
    num_gpu: Any = None
    num_keep: Any = None
    num_thread: Any = None
    penalize_newline: Any = None
    post_sampling_probs: Any = None
    reasoning_format: Any = None
    repeat_last_n: Any = None
    return_progress: Any = None
    return_tokens: Any = None
    samplers: Any = None
    skip_special_tokens: Any = None
    spaces_between_special_tokens: Any = None
    t_max_predict_ms: Any = None
    tfs_z: Any = None
    timings_per_token: Any = None
    top_n_sigma: Any = None
    ttl: Any = None
    typ_p: Any = None
    typical_p: Any = None
    use_mlock: Any = None
    use_mmap: Any = None
    xtc_probability: Any = None
    xtc_threshold: Any = None


class SamplingFields(OtherNames):
    """The fields that say how tokens are chosen; unset ones take the server's defaults."""

    temperature: Annotated[float, within("temperature")] | None = None
    top_p: Annotated[float, within("top_p")] | None = None
    top_k: Annotated[int, within("openai.top_k")] | None = None
    min_p: Annotated[float, within("min_p")] | None = None
    repetition_penalty: Annotated[float, within("repetition_penalty")] | None = None
    frequency_penalty: Annotated[float, within("frequency_penalty")] | None = None
    presence_penalty: Annotated[float, within("presence_penalty")] | None = None
    seed: Annotated[int, within("openai.seed")] | None = None
    logit_bias: Annotated[dict[TokenKey, Bias], at_most(300)] | None = None
    stop: Stops = None
    max_tokens: TokenLimit | None = None
    n: Annotated[int, within("n")] | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    model: ModelId | None = None
    keep_alive: KeepAlive | None = None
    # These have no effect here; the response header x-ignored-parameters names those that are set.
    user: Annotated[str, Field(max_length=512)] | None = None
    store: bool | None = None
    metadata: FreeJson | None = None
    service_tier: Annotated[str, Field(max_length=64)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = None
    prompt_cache_options: FreeJson | None = None
    prompt_cache_retention: Annotated[str, Field(max_length=64)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _names_are_ours(cls, value: Any) -> Any:
        is_few = isinstance(value, dict) and len(value) <= MAX_FIELDS
        return in_our_names(value) if is_few else value

    @model_validator(mode="after")
    def _streams_what_has_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest(ErrorText("needs_stream"), param="stream_options")
        return self
