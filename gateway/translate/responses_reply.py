"""`GenerateEvent`s as a response of OpenAI's Responses API, and as the events it grows by.

The plain reply is what the last event of a stream holds: both come from the same `ResponseBuilder`.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from common.error_texts import ErrorText
from common.errors import ContextLengthExceeded
from gateway.schemas.responses import (
    ReasoningOptions,
    ResponsesRequest,
    TextFormat,
    TextOptions,
)
from gateway.schemas.responses_tools import AnyTool, FunctionTool
from gateway.translate.reply_parts import served_by
from gateway.translate.responses_items import (
    CANCELLED,
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    INCOMPLETE,
    QUEUED,
    Output,
    ResponseEvent,
)
from gateway.translate.responses_tools import by_model_name, known_tools
from gateway.translate.sampling import ChatDefaults
from protos.y26hkx.v1 import chat_pb2, common_pb2

# The codes that a failed response may have; an `error` event carries the exact one.
_ERROR_CODES = {
    "invalid_request_error": "invalid_prompt",
    "rate_limit_error": "rate_limit_exceeded",
    "overloaded_error": "rate_limit_exceeded",
}
# Why a response is not complete.
_CUT = {
    chat_pb2.ChoiceEnd.REASON_LENGTH: "max_output_tokens",
    chat_pb2.ChoiceEnd.REASON_CONTENT_FILTER: "content_filter",
}


class ResponseBuilder:
    """One response.

    Args:
        key: makes its id and those of its items unique.
    """

    def __init__(self, key: str, body: ResponsesRequest, defaults: ChatDefaults) -> None:
        self._fixed = {"id": f"resp_{key}", "object": "response", "created_at": int(time.time())}
        self._fixed |= _echo(body, defaults)
        self._may_trim = body.truncation != "disabled"
        self._output = Output(key, by_model_name(known_tools(body)))
        self._n_events = 0
        self._state: dict[str, Any] = {
            "status": IN_PROGRESS,
            "error": None,
            "incomplete_details": None,
            "completed_at": None,
            "usage": None,
        }

    def response(self) -> dict[str, Any]:
        return self._fixed | self._state | {"output": self._output.shape()}

    @property
    def id(self) -> str:
        return str(self._fixed["id"])

    @property
    def is_whole(self) -> bool:
        return self._state["status"] in (COMPLETED, INCOMPLETE)

    def queue(self) -> list[bytes]:
        """The first events of a response in the background, before a worker has begun it."""
        self._state["status"] = QUEUED
        return [self._encode(self._whole(name)) for name in ("created", QUEUED)]

    def cancel(self) -> None:
        """End a response in the background before it is whole; no event tells that."""
        self._output.break_off()
        self._state["status"] = CANCELLED

    def take(self, event: chat_pb2.GenerateEvent) -> Iterable[bytes]:
        """For a plain reply, which nobody sees before its end."""
        for _ in self._events(event):
            pass
        return ()

    def stream(self, event: chat_pb2.GenerateEvent) -> Iterator[bytes]:
        return map(self._encode, self._events(event))

    def broken(self, body: dict[str, Any]) -> Iterator[bytes]:
        """The last events of a stream that fails.

        Args:
            body: the error's envelope.
        """
        error = dict(body["error"])
        code = _ERROR_CODES.get(error.pop("type"), "server_error")
        if not self._n_events:
            yield from map(self._encode, self._begin())
        yield self._encode(("error", error))
        self._output.break_off()
        self._state["status"] = FAILED
        self._state["error"] = {"code": code, "message": error["message"]}
        yield self._encode(self._whole(FAILED))

    def _events(self, event: chat_pb2.GenerateEvent) -> Iterator[ResponseEvent]:
        match event.WhichOneof("event"):
            case "delta":
                yield from self._output.add(event.delta)
            case "started":
                if event.started.trimmed_tokens and not self._may_trim:
                    raise ContextLengthExceeded(
                        ErrorText("input_too_long_to_trim"),
                        param="input",
                        suggestions=(ErrorText("send_less"), ErrorText("let_oldest_go")),
                    )
                self._fixed |= served_by(event.started)
                yield from self._begin()
            case "finished":
                yield from self._finish(event.finished)

    def _begin(self) -> Iterator[ResponseEvent]:
        if self._state["status"] != QUEUED:
            yield self._whole("created")
        self._state["status"] = IN_PROGRESS
        yield self._whole(IN_PROGRESS)

    def _finish(self, finished: chat_pb2.Finished) -> Iterator[ResponseEvent]:
        cut = next((_CUT[end.reason] for end in finished.choices if end.reason in _CUT), None)
        status = INCOMPLETE if cut else COMPLETED
        yield from self._output.end(status)
        self._state["status"] = status
        self._state["usage"] = _usage(finished.usage)
        if cut:
            self._state["incomplete_details"] = {"reason": cut}
        else:
            self._state["completed_at"] = int(time.time())
        yield self._whole(status)

    def _whole(self, name: str) -> ResponseEvent:
        return f"response.{name}", {"response": self.response()}

    def _encode(self, event: ResponseEvent) -> bytes:
        name, fields = event
        number = self._n_events
        self._n_events += 1
        return orjson.dumps({"type": name, "sequence_number": number} | fields)


def stream_error(body: dict[str, Any]) -> list[bytes]:
    """The last event for a client whose stream ends, but not the response.

    Args:
        body: the error's envelope.
    """
    return [orjson.dumps(body["error"] | {"type": "error"}, option=orjson.OPT_SORT_KEYS)]


def _echo(body: ResponsesRequest, defaults: ChatDefaults) -> dict[str, Any]:
    """What the client asked for, with the defaults that it got."""
    text = body.text or TextOptions()
    shape = text.format or TextFormat(type="text")
    reasoning = body.reasoning or ReasoningOptions()
    choice = body.tool_choice or "auto"
    of_model = defaults.of_model
    return {
        "model": body.model or "",
        "background": bool(body.background),
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "conversation": {"id": body.conversation_id} if body.conversation_id else None,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": reasoning.model_dump(include={"effort", "summary"}),
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": _given(body.temperature, defaults.temperature),
        "presence_penalty": _given(body.presence_penalty, of_model.presence_penalty),
        "frequency_penalty": _given(body.frequency_penalty, of_model.frequency_penalty),
        "text": {
            "format": shape.model_dump(by_alias=True, exclude_none=True),
            "verbosity": text.verbosity or "medium",
        },
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
        "tools": [_echo_tool(tool) for tool in body.tools or []],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": _given(body.top_p, defaults.top_p),
        "truncation": body.truncation or "auto",
        "user": body.user,
    }


def _given(asked: float | None, usual: float) -> float:
    return usual if asked is None else asked


def _echo_tool(tool: AnyTool) -> dict[str, Any]:
    if isinstance(tool, FunctionTool):
        return tool.model_dump() | {"strict": bool(tool.strict)}
    return tool.model_dump(exclude_none=True)


def _usage(counts: common_pb2.Usage) -> dict[str, Any]:
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }
