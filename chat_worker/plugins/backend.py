"""The protocol of third-party chat backends.

A package registers a backend under the entry point group `y26hkx.chat_backends`; MODEL_BACKEND
selects it by its name. `docs/backends.md` has an example. The backend is imported and run in its
own engine process: it may load any library, use any memory, and crash, without the server.
"""

from collections.abc import Iterator
from typing import Any, Literal, NotRequired, Protocol, Self, TypedDict, runtime_checkable

ENTRY_POINT_GROUP = "y26hkx.chat_backends"


class ChatMessage(TypedDict):
    """A message in OpenAI's form."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    # None if an assistant only calls tools.
    content: str | None
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]
    reasoning_content: NotRequired[str]


class GenerateResult(TypedDict):
    text: str
    # Counts that are missing are reported as 0.
    prompt_tokens: NotRequired[int]
    completion_tokens: NotRequired[int]
    # "length" if max_tokens ended the answer.
    finish_reason: NotRequired[Literal["stop", "length"]]


@runtime_checkable
class ChatBackend(Protocol):
    """A loaded model. One call runs at a time, all of them on one thread.

    `options` holds the parameters that a request has set of `top_k`, `min_p`, `repetition_penalty`,
    `frequency_penalty`, `presence_penalty`, `seed`, `logit_bias`, `stop`, `ignore_eos` and
    `chat_template_kwargs`; a backend may ignore them. Stop strings are applied to the text in any
    case. A `common.errors.ServingError` is sent to the client as it is. Of any other exception the
    client receives the type only, and the traceback is logged.
    """

    @classmethod
    def load(cls, path: str, **options: Any) -> Self:
        """Load the model at MODEL_PATH, which need not exist.

        Args:
            options: `model_id`, `n_ctx` (tokens of prompt and answer) and `n_threads` (0: decide).
        """

    def supports_stream(self) -> bool:
        """Whether to use `stream_generate`; only a stream can be stopped before its end."""

    def generate(
        self,
        messages: list[ChatMessage],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float,
        **options: Any,
    ) -> GenerateResult:
        """The whole answer."""

    def stream_generate(
        self,
        messages: list[ChatMessage],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float,
        **options: Any,
    ) -> Iterator[str]:
        """The answer in pieces.

        A generator may return a `GenerateResult` with its counts and finish reason; its text is
        ignored. The generator is closed between two pieces when the rest is no longer needed.
        """
