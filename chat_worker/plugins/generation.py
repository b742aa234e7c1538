"""Runs one request with a third-party backend."""

import time
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from chat_worker import pipe_messages as m
from chat_worker.openai_request import openai_messages, sampling_fields
from chat_worker.plugins.backend import ChatBackend, GenerateResult
from chat_worker.text.stops import StopFilter
from common.error_texts import ErrorText
from common.errors import UnsupportedParameter

Emit = Callable[[m.EngineEvent], None]
Pieces = Generator[str, None, GenerateResult]


class PluginGeneration:
    """One answer.

    Args:
        emit: receives the events of the answer.
        is_wanted: called between pieces; after it returns False, generation stops.
    """

    def __init__(
        self, backend: ChatBackend, spec: m.LoadSpec, emit: Emit, is_wanted: Callable[[], bool]
    ) -> None:
        self._backend = backend
        self._spec = spec
        self._emit = emit
        self._is_wanted = is_wanted
        self._has_started = False
        self._first_s = 0.0

    def run(self, request: m.Generate, queue_s: float) -> GenerateResult:
        """Emit the whole answer; returns what the backend reports for the first choice.

        Raises:
            UnsupportedParameter: the request uses a parameter that the protocol does not have.
        """
        _require_plain_text(request, self._spec.backend)
        began_s = time.monotonic()
        choices = [self._choice(request, choice) for choice in range(request.n)]
        results = [result for _, result in choices]
        self._start()
        self._emit(
            m.Finished(
                choices=[end for end, _ in choices],
                prompt_tokens=results[0].get("prompt_tokens", 0),
                completion_tokens=sum(result.get("completion_tokens", 0) for result in results),
                cached_tokens=0,
                queue_s=queue_s,
                prefill_s=self._first_s - began_s,
                decode_s=time.monotonic() - self._first_s,
            )
        )
        return results[0]

    def _choice(self, request: m.Generate, choice: int) -> tuple[m.ChoiceEnd, GenerateResult]:
        stops = StopFilter(request.stop)
        pieces = _pieces(self._backend, *self._asked(request, choice))
        result: GenerateResult = {"text": ""}
        while stops.found is None and self._is_wanted():
            try:
                self._emit_text(choice, stops.push(next(pieces)))
            except StopIteration as end:
                result = end.value
                break
        pieces.close()
        self._emit_text(choice, stops.flush())
        reason = "stop" if stops.found else result.get("finish_reason", "stop")
        return m.ChoiceEnd(choice, reason, stops.found), result

    def _emit_text(self, choice: int, text: str) -> None:
        if not isinstance(text, str):  # a third-party generator may yield anything
            raise TypeError(f"a piece of the answer is of type {type(text).__name__}")
        if text:
            self._start()
            self._emit(m.Delta(choice, text, n_tokens=0))

    def _start(self) -> None:
        """Report the beginning, as late as possible: an earlier failure gets its HTTP status."""
        if not self._has_started:
            self._has_started = True
            self._first_s = time.monotonic()
            self._emit(m.Started(prompt_tokens=0, cached_tokens=0))

    def _asked(
        self, request: m.Generate, choice: int
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        assert isinstance(request.input, m.Conversation), "`_require_plain_text` has looked"
        options = sampling_fields(request.sampling, self._spec.global_seed)
        options["max_tokens"] = request.max_tokens or self._spec.n_ctx
        if "seed" in options:
            options["seed"] += choice
        optional = {
            "stop": request.stop,
            "ignore_eos": request.ignore_eos,
            "chat_template_kwargs": request.input.template_kwargs,
        }
        options |= {name: value for name, value in optional.items() if value}
        return openai_messages(request.input, self._spec.default_system_prompt), options


def _pieces(backend: ChatBackend, messages: Any, options: dict[str, Any]) -> Pieces:
    """The answer's pieces, checked; a backend without streaming has one piece."""
    if not backend.supports_stream():
        result = _checked(backend.generate(messages, **options))
        yield result["text"]
        return result
    reported = yield from backend.stream_generate(messages, **options)  # type: ignore[func-returns-value]
    return {"text": ""} if reported is None else _checked(reported)


def _checked(result: object) -> GenerateResult:
    return msgspec.convert(result, GenerateResult)


def _require_plain_text(request: m.Generate, backend: str) -> None:
    refused = {
        "prompt": not isinstance(request.input, m.Conversation),
        "tools": isinstance(request.input, m.Conversation) and bool(request.input.tools),
        "response_format": request.constraint is not None,
        "logprobs": request.top_logprobs is not None,
    }
    for param, is_asked in refused.items():
        if is_asked:
            raise UnsupportedParameter(
                ErrorText("backend_lacks", backend=backend, name=param),
                param=param,
                suggestions=(ErrorText("use_other_backend"),),
            )
