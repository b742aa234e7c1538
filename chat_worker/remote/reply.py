"""Converts the chunks of another server's stream to events.

Nothing in them is trusted: numbers are checked, and tool calls are renumbered, because the gateway
depends on their order.
"""

import time
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from chat_worker import pipe_messages as m
from chat_worker.remote.failures import UpstreamError, failed_in_stream
from common.error_texts import ErrorText
from common.errors import BackendFailure, WorkerLost

DONE = b"[DONE]"
Count = Annotated[int, Meta(ge=0, le=2**31)]
Byte = Annotated[int, Meta(ge=0, le=255)]
_REASONS: dict[str, Literal["stop", "length", "tool_calls"]] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


class _PromptDetails(Struct):
    cached_tokens: Count | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: Count | None = None


class _Usage(Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _CallPiece(Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    # Servers use either of these names.
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_CallPiece] | None = None


class _Candidate(Struct):
    token: str
    logprob: float
    bytes: list[Byte] | None = None


class _Scored(_Candidate):
    top_logprobs: list[_Candidate] | None = None


class _Logprobs(Struct):
    content: list[_Scored] | None = None
    # In replies of /v1/completions.
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    # In replies of /v1/completions.
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None
    # vLLM reports the stop string here.
    stop_reason: str | int | None = None


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: UpstreamError | str | None = None


_decoder = msgspec.json.Decoder(_Chunk)


class RemoteReply:
    """One answer while it is received.

    Args:
        call_id: used in the ids of tool calls that have none.
        n: the number of requested choices.
        queue_s: how long the request waited here.
    """

    def __init__(self, call_id: int, n: int, queue_s: float) -> None:
        self._call_id = call_id
        self._n = n
        self._queue_s = queue_s
        self._sent_s = time.monotonic()
        self._first_s: float | None = None
        self._has_started = False
        self._ends: dict[int, m.ChoiceEnd] = {}
        self._usage: _Usage | None = None
        # The number that a call gets here, by its choice and its number on the other server.
        self._calls: dict[tuple[int, int], int] = {}
        self.is_done = False

    @property
    def is_counted(self) -> bool:
        """Whether the server has reported its token counts."""
        return self._usage is not None

    def take(self, payload: bytes) -> list[m.EngineEvent]:
        """The events for one `data:` line.

        Raises:
            ServingError: the line reports a failure, or is not valid.
        """
        if payload == DONE:
            self.is_done = True
            return []
        try:
            chunk = _decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BackendFailure(ErrorText("remote_not_understood")) from None
        if chunk.error is not None:
            raise failed_in_stream(chunk.error)
        self._usage = chunk.usage or self._usage
        events: list[m.EngineEvent] = []
        if not self._has_started:
            self._has_started = True
            # The number of prompt tokens is reported only at the end.
            events.append(m.Started(prompt_tokens=0, cached_tokens=0))
        for choice in chunk.choices:
            events += self._delta(choice)
        return events

    def finished(self) -> m.Finished:
        """The final event.

        Raises:
            WorkerLost: the stream ended before every choice did.
        """
        if len(self._ends) < self._n:
            raise WorkerLost(ErrorText("remote_broke_off"), retry_after_s=1)
        usage = self._usage or _Usage()
        prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
        now = time.monotonic()
        first_s = now if self._first_s is None else self._first_s
        return m.Finished(
            choices=[self._ends[number] for number in range(self._n)],
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=(prompt and prompt.cached_tokens) or 0,
            reasoning_tokens=(completion and completion.reasoning_tokens) or 0,
            queue_s=self._queue_s,
            prefill_s=first_s - self._sent_s,
            decode_s=now - first_s,
        )

    def _delta(self, choice: _Choice) -> list[m.EngineEvent]:
        number = choice.index
        if not 0 <= number < self._n:
            raise BackendFailure(ErrorText("remote_unasked_choice"))
        received = choice.delta or _Delta()
        delta = m.Delta(
            choice=number,
            text=choice.text or received.content or received.refusal or "",
            n_tokens=0,  # the other server only counts all choices together
            logprobs=_scores(choice.logprobs),
            reasoning=received.reasoning_content or received.reasoning or "",
            calls=[self._call(number, piece) for piece in received.tool_calls or []],
        )
        if choice.finish_reason:
            stop = choice.stop_reason if isinstance(choice.stop_reason, str) else None
            reason = _REASONS.get(choice.finish_reason, "stop")
            self._ends[number] = m.ChoiceEnd(number, reason, stop)
        if not (delta.text or delta.reasoning or delta.calls or delta.logprobs):
            return []
        if self._first_s is None:
            self._first_s = time.monotonic()
        return [delta]

    def _call(self, choice: int, piece: _CallPiece) -> m.CallPiece:
        function = piece.function or _Function()
        key = (choice, piece.index)
        if key in self._calls:
            return m.CallPiece(self._calls[key], arguments=function.arguments or "")
        index = sum(1 for other, _ in self._calls if other == choice)
        self._calls[key] = index
        call_id = piece.id or f"call_{self._call_id}_{choice}_{index}"
        return m.CallPiece(index, call_id, function.name or "", function.arguments or "")


def _scores(logprobs: _Logprobs | None) -> list[m.TokenLogprob]:
    if logprobs is None:
        return []
    if logprobs.content is not None:
        return [
            m.TokenLogprob(_candidate(one), [_candidate(top) for top in one.top_logprobs or []])
            for one in logprobs.content
        ]
    tokens = logprobs.tokens or []
    tops = logprobs.top_logprobs or [None] * len(tokens)
    return [
        m.TokenLogprob(
            m.Candidate(0, token.encode(), logprob or 0.0),
            [m.Candidate(0, text.encode(), value) for text, value in (top or {}).items()],
        )
        for token, logprob, top in zip(tokens, logprobs.token_logprobs or [], tops, strict=False)
    ]


def _candidate(candidate: _Candidate) -> m.Candidate:
    """Token ids are not sent over HTTP, in either direction."""
    text = candidate.token.encode() if candidate.bytes is None else bytes(candidate.bytes)
    return m.Candidate(0, text, candidate.logprob)
