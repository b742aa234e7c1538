"""`POST /v1/completions` to and from the same Generate stream: one call per prompt."""

import codecs
import math
import time
from collections.abc import Iterable
from typing import Any

import orjson

from common.error_texts import ErrorText
from common.errors import UnsupportedParameter
from gateway.schemas.completions import CompletionRequest
from gateway.translate.formats import constraint
from gateway.translate.reply_parts import FINISH_REASONS, served_by, token_text, usage
from gateway.translate.sampling import ChatDefaults, sampling, stop_strings, token_limit
from gateway.translate.timings import ReplyTimings
from protos.y26hkx.v1 import chat_pb2, common_pb2


def generate_requests(
    body: CompletionRequest, defaults: ChatDefaults, cache_salt: str
) -> list[chat_pb2.GenerateRequest]:
    """Raises:
    UnsupportedParameter: `suffix` after tokens, or `best_of` other than `n`.
    """
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise UnsupportedParameter(ErrorText("best_of_differs"), param="best_of")
    return [_request(body, prompt, defaults, cache_salt) for prompt in _prompts(body)]


def _prompts(body: CompletionRequest) -> list[str | list[int]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [prompt]
    return list(prompt)


def _request(
    body: CompletionRequest, prompt: str | list[int], defaults: ChatDefaults, cache_salt: str
) -> chat_pb2.GenerateRequest:
    request = chat_pb2.GenerateRequest(
        model=body.model or "",
        sampling=sampling(body, defaults),
        max_tokens=token_limit(body.max_tokens, defaults),
        stop=stop_strings(body),
        n=body.n or 1,
        top_logprobs=body.logprobs,
        ignore_eos=bool(body.ignore_eos),
        echo=bool(body.echo),
        parse_special=body.parse_special is not False,
        constraint=constraint(body),
        keep_alive_s=body.keep_alive,
        cache_salt=cache_salt,
    )
    if body.suffix:
        if not isinstance(prompt, str):
            raise UnsupportedParameter(ErrorText("suffix_needs_text"), param="suffix")
        request.infill.prefix, request.infill.suffix = prompt, body.suffix
    elif isinstance(prompt, str):
        request.prompt = prompt
    else:
        request.prompt_tokens.ids.extend(prompt)
    return request


class Completion:
    """One reply, of one call per prompt; choice numbers go on from prompt to prompt."""

    def __init__(
        self, reply_id: str, n: int, *, logprobs: bool, with_usage: bool, with_timings: bool
    ) -> None:
        self._base: dict[str, Any] = {
            "id": reply_id,
            "object": "text_completion",
            "created": int(time.time()),
        }
        self._n = n
        self._logprobs = logprobs
        self._with_usage = with_usage
        self._timings = ReplyTimings() if with_timings else None
        self._offsets: dict[int, _Offset] = {}
        self.total = common_pb2.Usage()

    def chunks(self, event: chat_pb2.GenerateEvent, prompt: int) -> list[bytes]:
        """The stream's chunks for `event` of the call for the `prompt`th prompt."""
        self._time(event)
        match event.WhichOneof("event"):
            case "started":
                self._name(event.started)
            case "delta":
                delta = event.delta
                number = prompt * self._n + delta.choice
                logprobs = self._logprobs_of(number, delta.logprobs)
                return [self._chunk(self._choice(number, delta.text, logprobs, None))]
            case "finished":
                self._count(event.finished.usage)
                return [
                    self._chunk(
                        self._choice(
                            prompt * self._n + end.choice, "", None, FINISH_REASONS[end.reason]
                        )
                    )
                    for end in event.finished.choices
                ]
        return []

    def last_chunk(self) -> bytes | None:
        """The usage chunk, if it was asked for."""
        if not self._with_usage:
            return None
        last = {"choices": [], "usage": usage(self.total)} | self._timings_field()
        return orjson.dumps(self._base | last)

    def collect(self, calls: list[list[chat_pb2.GenerateEvent]]) -> dict[str, Any]:
        """The whole reply from all events of all calls."""
        choices = []
        for prompt, events in enumerate(calls):
            text = dict.fromkeys(range(self._n), "")
            scored: dict[int, list[chat_pb2.TokenLogprob]] = {number: [] for number in text}
            reasons = dict.fromkeys(text, "stop")
            for event in events:
                self._time(event)
                match event.WhichOneof("event"):
                    case "started":
                        self._name(event.started)
                    case "delta":
                        text[event.delta.choice] += event.delta.text
                        scored[event.delta.choice].extend(event.delta.logprobs)
                    case "finished":
                        self._count(event.finished.usage)
                        reasons |= {
                            e.choice: FINISH_REASONS[e.reason] for e in event.finished.choices
                        }
            for number in text:
                at = prompt * self._n + number
                logprobs = self._logprobs_of(at, scored[number])
                choices.append(self._choice(at, text[number], logprobs, reasons[number]))
        reply = self._base | {"choices": choices, "usage": usage(self.total)}
        return reply | self._timings_field()

    def _time(self, event: chat_pb2.GenerateEvent) -> None:
        if self._timings is not None:
            self._timings.see(event)

    def _timings_field(self) -> dict[str, Any]:
        return {} if self._timings is None else {"timings": self._timings.shown()}

    def _name(self, started: chat_pb2.Started) -> None:
        self._base |= served_by(started)

    def _count(self, counts: common_pb2.Usage) -> None:
        self.total.prompt_tokens += counts.prompt_tokens
        self.total.completion_tokens += counts.completion_tokens
        self.total.cached_tokens += counts.cached_tokens

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        usage_field = {"usage": None} if self._with_usage else {}
        return orjson.dumps(
            self._base | {"choices": [choice]} | usage_field | self._timings_field()
        )

    def _choice(
        self, number: int, text: str, logprobs: dict[str, Any] | None, reason: str | None
    ) -> dict[str, Any]:
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs_of(
        self, number: int, items: Iterable[chat_pb2.TokenLogprob]
    ) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        offset = self._offsets.setdefault(number, _Offset())
        found: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for item in items:
            has_one = not math.isnan(item.chosen.logprob)
            found["tokens"].append(token_text(item.chosen))
            found["token_logprobs"].append(item.chosen.logprob if has_one else None)
            found["top_logprobs"].append(_by_text(item) if has_one else None)
            found["text_offset"].append(offset.before(item.chosen.text))
        return found


class _Offset:
    """Where in a text its tokens begin, which may end in the middle of a character."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._n_chars = 0

    def before(self, token: bytes) -> int:
        at = self._n_chars
        self._n_chars += len(self._decoder.decode(token))
        return at


def _by_text(item: chat_pb2.TokenLogprob) -> dict[str, float]:
    """The likeliest tokens and the chosen one, which may not be among them. Of tokens that look the
    same, as pieces of a character do, the likeliest is told."""
    found: dict[str, float] = {}
    for candidate in (*item.top, item.chosen):
        found.setdefault(token_text(candidate), candidate.logprob)
    return found
