"""Common parts of the engines that pass requests to a model outside of this project."""

from typing import Any

import msgspec

from chat_worker import pipe_messages as m
from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter

_DEFAULT = m.Sampling()
# Always sent, because the other side may have other defaults.
_ALWAYS = frozenset({"temperature", "top_p"})
_FLOAT32_DIGITS = 6


def generation(request: m.EngineRequest, backend: str) -> m.Generate:
    """`request`, if it can be passed to `backend`.

    Raises:
        UnsupportedParameter: it needs the model's own tokenizer or template.
    """
    if not isinstance(request, m.Generate):
        raise UnsupportedParameter(ErrorText("tokens_not_known", backend=backend), param="model")
    if isinstance(request.input, m.PromptTokens):
        raise UnsupportedParameter(
            ErrorText("prompt_as_text_only", backend=backend),
            param="prompt",
            suggestions=(ErrorText("send_prompt_as_string"),),
        )
    if request.echo:
        raise UnsupportedParameter(ErrorText("echo_not_offered", backend=backend), param="echo")
    return request


def sampling_fields(sampling: m.Sampling, global_seed: int | None) -> dict[str, Any]:
    """Temperature, top_p and all parameters that have an effect, under OpenAI's names."""
    fields = {
        name: _rounded(value)
        for name, value in msgspec.structs.asdict(sampling).items()
        if name in _ALWAYS or value != getattr(_DEFAULT, name)
    }
    if sampling.logit_bias:
        fields["logit_bias"] = {
            str(token): _rounded(bias) for token, bias in sampling.logit_bias.items()
        }
    seed = global_seed if sampling.seed is None else sampling.seed
    if seed is not None:
        # Negative seeds are transported as the upper half of 64 bits.
        fields["seed"] = seed - 2**64 if seed >= 2**63 else seed
    return fields


def openai_messages(conversation: m.Conversation, system_prompt: str) -> list[dict[str, Any]]:
    """The messages in OpenAI's form, beginning with the configured system prompt if there is none.

    Raises:
        InvalidRequest: there is no message.
    """
    if not conversation.messages:
        raise InvalidRequest(ErrorText("messages_empty"), param="messages")
    messages = [_message(message) for message in conversation.messages]
    has_own = any(message["role"] in ("system", "developer") for message in messages)
    if system_prompt and not has_own:
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages


def _message(message: m.Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        fields["content"] = message.content or None
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    optional = {
        "name": message.name,
        "tool_call_id": message.tool_call_id,
        "reasoning_content": message.reasoning,
    }
    return fields | {name: value for name, value in optional.items() if value}


def _rounded(value: Any) -> Any:
    """0.7 arrives as the 32-bit value 0.699999988."""
    return round(value, _FLOAT32_DIGITS) if isinstance(value, float) else value
