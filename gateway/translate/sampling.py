"""How tokens are chosen, from a request's fields and the server's defaults."""

from dataclasses import dataclass

from gateway.schemas.sampling import NO_LIMIT, SamplingFields
from protos.y26hkx.v1 import chat_pb2

NO_THINKING = ("none", "minimal")
ANY_SEED = -1


@dataclass(frozen=True)
class ChatDefaults:
    """What a request means that leaves these out."""

    temperature: float
    top_p: float
    max_tokens: int


def sampling(body: SamplingFields, defaults: ChatDefaults) -> chat_pb2.Sampling:
    bias = {int(token): value for token, value in (body.logit_bias or {}).items()}
    return chat_pb2.Sampling(
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        top_k=None if body.top_k is None else max(body.top_k, 0),
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        # Negative seeds are seeds too, but for the one that says any.
        seed=None if body.seed in (None, ANY_SEED) else body.seed % 2**64,
        logit_bias=bias,
    )


def token_limit(asked: int | None, defaults: ChatDefaults) -> int | None:
    """How many tokens an answer may have; None: as many as the context leaves."""
    if asked == NO_LIMIT:
        return None
    return defaults.max_tokens if asked is None else asked


def stop_strings(body: SamplingFields) -> list[str]:
    return [body.stop] if isinstance(body.stop, str) else body.stop or []


def effort_kwargs(effort: str | None) -> dict[str, str | bool]:
    """What an effort of reasoning means to a model's template."""
    if effort is None:
        return {}
    if effort in NO_THINKING:
        return {"enable_thinking": False}
    return {"reasoning_effort": effort}
