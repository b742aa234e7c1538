"""`options` of Ollama's requests: what is honoured, what has no effect here, what is refused."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from common.error_texts import ErrorText
from common.errors import UnsupportedParameter
from gateway.schemas.base import ApiModel, within
from gateway.schemas.sampling import Stops

MOST_TOKENS = 2**31 - 1

# How a model is loaded or computed, which this server decides itself, and samplers' details.
NO_EFFECT = frozenset(
    {
        "draft_num_predict",
        "embedding_only",
        "f16_kv",
        "logits_all",
        "low_vram",
        "main_gpu",
        "mirostat_eta",
        "mirostat_tau",
        "num_batch",
        "num_gpu",
        "num_gqa",
        "num_keep",
        "num_thread",
        "numa",
        "penalize_newline",
        "repeat_last_n",
        "rope_frequency_base",
        "rope_frequency_scale",
        "use_mlock",
        "use_mmap",
        "vocab_only",
    }
)
# Samplers that do not exist here, and the values at which they do nothing.
NEUTRAL = {"mirostat": 0, "tfs_z": 1, "typical_p": 1}


def _whole(value: Any) -> Any:
    """Whole numbers may be written with a fraction of zero."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)


class Options(ApiModel):
    temperature: Annotated[float, within("temperature")] | None = None
    top_p: Annotated[float, within("top_p")] | None = None
    top_k: Annotated[int, within("openai.top_k"), Whole] | None = None
    min_p: Annotated[float, within("min_p")] | None = None
    repeat_penalty: Annotated[float, within("repetition_penalty")] | None = None
    frequency_penalty: Annotated[float, within("frequency_penalty")] | None = None
    presence_penalty: Annotated[float, within("presence_penalty")] | None = None
    seed: Annotated[int, within("openai.seed"), Whole] | None = None
    stop: Stops = None
    # -2, -1 and 0: as many as the context leaves.
    num_predict: Annotated[int, Field(ge=-2, le=MOST_TOKENS), Whole] | None = None
    # The context that the client counts on; a model has what it was loaded with.
    num_ctx: Annotated[int, Field(ge=1, le=MOST_TOKENS), Whole] | None = None
    mirostat: float | None = None
    tfs_z: float | None = None
    typical_p: float | None = None
    draft_num_predict: Any = None
    embedding_only: Any = None
    f16_kv: Any = None
    logits_all: Any = None
    low_vram: Any = None
    main_gpu: Any = None
    mirostat_eta: Any = None
    mirostat_tau: Any = None
    num_batch: Any = None
    num_gpu: Any = None
    num_gqa: Any = None
    num_keep: Any = None
    num_thread: Any = None
    numa: Any = None
    penalize_newline: Any = None
    repeat_last_n: Any = None
    rope_frequency_base: Any = None
    rope_frequency_scale: Any = None
    use_mlock: Any = None
    use_mmap: Any = None
    vocab_only: Any = None

    @model_validator(mode="after")
    def _samples_as_asked(self) -> Self:
        for name, neutral in NEUTRAL.items():
            if getattr(self, name) not in (None, neutral):
                raise UnsupportedParameter(
                    ErrorText("sampler_unknown", name=name),
                    param=f"options.{name}",
                    suggestions=(ErrorText("leave_out", name=name),),
                )
        return self

    def over(self, defaults: "Options") -> "Options":
        """These options, and those of `defaults` that are not set here."""
        own = {
            name: value
            for name in self.model_fields_set
            if (value := getattr(self, name)) is not None
        }
        return defaults.model_copy(update=own)

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def without_effect(self) -> list[str]:
        """Names of options that the client set and that change nothing."""
        sent = self.model_fields_set & NO_EFFECT
        return sorted(f"options.{name}" for name in sent if getattr(self, name) is not None)
