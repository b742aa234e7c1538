"""A chat backend that says back what it hears: a whole third party's backend, to begin with.

Its package declares it:

    [project.entry-points."y26hkx.chat_backends"]
    echo = "echo_backend:EchoBackend"

and MODEL_BACKEND=echo runs the main model with it.
"""

from collections.abc import Generator
from typing import Any, Self

from chat_worker.plugins.backend import ChatMessage, GenerateResult


class EchoBackend:
    def __init__(self, name: str) -> None:
        self._name = name

    @classmethod
    def load(cls, path: str, **options: Any) -> Self:
        """A real backend loads the weights at `path` here."""
        return cls(options["model_id"])

    def supports_stream(self) -> bool:
        return True

    def generate(
        self, messages: list[ChatMessage], *, max_tokens: int, **options: Any
    ) -> GenerateResult:
        heard = (messages[-1]["content"] or "").split(" ")
        words = [f"{self._name}:", *heard][:max_tokens]
        return {
            "text": " ".join(words),
            "prompt_tokens": len(heard),
            "completion_tokens": len(words),
            "finish_reason": "stop" if len(words) > len(heard) else "length",
        }

    def stream_generate(
        self, messages: list[ChatMessage], *, max_tokens: int, **options: Any
    ) -> Generator[str, None, GenerateResult]:
        result = self.generate(messages, max_tokens=max_tokens, **options)
        for number, word in enumerate(result["text"].split(" ")):
            yield f" {word}" if number else word
        return result
