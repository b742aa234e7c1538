"""Fields that several requests translate alike."""

from dataclasses import dataclass

from gateway.schemas.common import SamplingFields
from protos.y26hkx.v1 import chat_pb2, common_pb2

NO_THINKING = ("none", "minimal")


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
        top_k=body.top_k,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        # Negative seeds are seeds too.
        seed=None if body.seed is None else body.seed % 2**64,
        logit_bias=bias,
    )


def stop_strings(body: SamplingFields) -> list[str]:
    return [body.stop] if isinstance(body.stop, str) else body.stop or []


def effort_kwargs(effort: str | None) -> dict[str, str | bool]:
    """What an effort of reasoning means to a model's template."""
    if effort is None:
        return {}
    if effort in NO_THINKING:
        return {"enable_thinking": False}
    return {"reasoning_effort": effort}


def usage(counts: common_pb2.Usage) -> dict[str, object]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
    }


def served_by(started: chat_pb2.Started) -> dict[str, object]:
    """Which model answers, `trimmed` if it did not see the whole input, and what it had to give up
    to fit into memory."""
    found: dict[str, object] = {
        "model": started.model.id,
        "system_fingerprint": started.model.fingerprint,
    }
    if started.trimmed_tokens:
        found["trimmed"] = True
    return found | reduced(started)


def reduced(started: chat_pb2.Started) -> dict[str, object]:
    return {"reduced": list(started.reductions)} if started.reductions else {}


FINISH_REASONS = {
    chat_pb2.ChoiceEnd.REASON_UNSPECIFIED: "stop",
    chat_pb2.ChoiceEnd.REASON_STOP: "stop",
    chat_pb2.ChoiceEnd.REASON_LENGTH: "length",
    chat_pb2.ChoiceEnd.REASON_TOOL_CALLS: "tool_calls",
}


def token_text(candidate: chat_pb2.Candidate) -> str:
    return candidate.text.decode("utf-8", "replace")
