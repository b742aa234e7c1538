"""What a custom model puts into requests of OpenAI's API: its options and system prompt."""

from typing import Any

from common.sampling_ranges import MAX_TOKENS
from gateway.custom_models import CustomModel
from gateway.schemas.base import ApiModel
from gateway.schemas.chat import ChatRequest, Message
from gateway.schemas.sampling import NO_LIMIT, SamplingFields


def apply(custom: CustomModel, body: ApiModel) -> None:
    """Set what the client left out."""
    if not isinstance(body, SamplingFields):
        return
    fields = _fields(custom)
    if isinstance(body, ChatRequest):
        if body.max_completion_tokens is not None:
            del fields["max_tokens"]
        body.messages = [*_before(custom, body.messages), *body.messages]
    for name, value in fields.items():
        if value is not None and getattr(body, name) is None:
            setattr(body, name, value)


def _fields(custom: CustomModel) -> dict[str, Any]:
    options = custom.options
    limit = options.num_predict
    return {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "min_p": options.min_p,
        "repetition_penalty": options.repeat_penalty,
        "frequency_penalty": options.frequency_penalty,
        "presence_penalty": options.presence_penalty,
        "seed": options.seed,
        "stop": options.stop,
        "max_tokens": limit if limit is None or 0 < limit <= MAX_TOKENS else NO_LIMIT,
    }


def _before(custom: CustomModel, messages: list[Message]) -> list[Message]:
    has_own = messages[0].role in ("system", "developer")
    system = [Message(role="system", content=custom.system)] if custom.system else []
    examples = [Message(role=m.role, content=m.content) for m in custom.messages]
    return [*([] if has_own else system), *examples]
