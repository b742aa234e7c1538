"""The spans of calls to workers.

Source of the attributes: OpenTelemetry's conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from common.tracing import Span, Value, current, step
from gateway.translate.reply_parts import FINISH_REASONS
from gateway.translate.token_estimate import Inputs
from protos.y26hkx.v1 import chat_pb2, embed_pb2

PROVIDER = "gen_ai.provider.name"
OPERATION = "gen_ai.operation.name"
REQUEST_MODEL = "gen_ai.request.model"
# Names of sampling parameters in the conventions that are those of the contract.
SAMPLING = ("temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")
EMBEDDING_OPERATIONS = {
    embed_pb2.EmbedRequest: "embeddings",
    embed_pb2.RerankRequest: "rerank",
    embed_pb2.ScoreRequest: "score",
}
# Of a text in a span, in characters.
MAX_TEXT = 4096

See = Callable[[chat_pb2.GenerateEvent], None]


@contextmanager
def traced_generation(request: chat_pb2.GenerateRequest, see: See) -> Iterator[See]:
    """A span around a generation.

    Args:
        see: called for each event by what this yields.
    """
    if current.get() is None:
        yield see
        return
    operation = "chat" if request.HasField("conversation") else "text_completion"
    with _call(operation, request.model) as span:
        assert span is not None, "this task is traced"
        span.note(_asked(request))
        yield _Watch(span, request, see).see


def traced_embedding(message: Inputs) -> AbstractContextManager[Span | None]:
    """A span around the call of an embedding worker."""
    return _call(EMBEDDING_OPERATIONS[type(message)], message.model)


def note_embedding(span: Span | None, model: str, n_tokens: int) -> None:
    """What an embedding worker has answered."""
    if span is not None:
        span.note({"gen_ai.response.model": model, "gen_ai.usage.input_tokens": n_tokens})


def _call(operation: str, model: str) -> AbstractContextManager[Span | None]:
    facts = {OPERATION: operation, PROVIDER: "y26hkx", REQUEST_MODEL: model}
    return step(f"{operation} {model}".rstrip(), facts, kind="client")


class _Watch:
    """Notes what the events of a generation tell."""

    def __init__(self, span: Span, request: chat_pb2.GenerateRequest, see: See) -> None:
        self._span = span
        self._see = see
        self._has_begun = False
        self._texts: dict[int, str] | None = None
        if span.takes_texts:
            self._texts = {}
            said = [(m.role, m.content) for m in request.conversation.messages]
            span.note({"gen_ai.input.messages": _messages(said or [("user", request.prompt)])})

    def see(self, event: chat_pb2.GenerateEvent) -> None:
        self._see(event)
        if event.HasField("delta"):
            if not self._has_begun:
                self._has_begun = True
                self._span.happened("first token")
            if self._texts is not None:
                choice = event.delta.choice
                self._texts[choice] = (self._texts.get(choice, "") + event.delta.text)[:MAX_TEXT]
        elif event.HasField("started"):
            self._span.note({"gen_ai.response.model": event.started.model.id})
        else:
            self._finish(event.finished)

    def _finish(self, finished: chat_pb2.Finished) -> None:
        usage = finished.usage
        self._span.note(
            {
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
                "gen_ai.response.finish_reasons": [
                    FINISH_REASONS[choice.reason] for choice in finished.choices
                ],
            }
        )
        if self._texts is not None:
            said = [("assistant", text) for _, text in sorted(self._texts.items())]
            self._span.note({"gen_ai.output.messages": _messages(said)})


def _asked(request: chat_pb2.GenerateRequest) -> dict[str, Value]:
    asked: dict[str, Value] = {
        f"gen_ai.request.{field.name}": value
        for field, value in request.sampling.ListFields()
        if field.name in SAMPLING
    }
    if request.HasField("max_tokens"):
        asked["gen_ai.request.max_tokens"] = request.max_tokens
    if request.n > 1:
        asked["gen_ai.request.choice.count"] = request.n
    return asked


def _messages(said: list[tuple[str, str]]) -> str:
    """Messages in the conventions' form, as JSON; the latest ones, if they are many."""
    return json.dumps(
        [
            {"role": role, "parts": [{"type": "text", "content": text[:MAX_TEXT]}]}
            for role, text in said[-8:]
        ],
        ensure_ascii=False,
    )
