"""llama-server's `/infill` to and from the contract: a reply, or one event after the other."""

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.schemas.infill import InfillRequest
from gateway.translate.formats import constraint
from gateway.translate.reply_parts import reduced
from gateway.translate.sampling import ChatDefaults, sampling, stop_strings, token_limit
from gateway.translate.timings import ReplyTimings
from protos.y26hkx.v1 import chat_pb2

CUT_OFF = (chat_pb2.ChoiceEnd.REASON_LENGTH, chat_pb2.ChoiceEnd.REASON_CONTENT_FILTER)


def infill_request(
    body: InfillRequest, defaults: ChatDefaults, cache_salt: str
) -> chat_pb2.GenerateRequest:
    files = [
        chat_pb2.InfillFile(name=file.filename, text=file.text) for file in body.input_extra or []
    ]
    return chat_pb2.GenerateRequest(
        model=body.model or "",
        infill=chat_pb2.Infill(
            prefix=body.input_prefix, suffix=body.input_suffix, begun=body.prompt, files=files
        ),
        sampling=sampling(body, defaults),
        max_tokens=token_limit(body.max_tokens, defaults),
        stop=stop_strings(body),
        n=1,
        ignore_eos=bool(body.ignore_eos),
        constraint=constraint(body),
        keep_alive_s=body.keep_alive,
        cache_salt=cache_salt,
    )


class Infilled:
    """The reply to one request.

    Args:
        with_timings: whether each event of a stream has timings, and not only the last.
    """

    def __init__(self, *, with_timings: bool) -> None:
        self._with_timings = with_timings
        self._started = chat_pb2.Started()
        self._timings = ReplyTimings()

    def events(self, event: chat_pb2.GenerateEvent) -> Iterator[bytes]:
        self._timings.see(event)
        match event.WhichOneof("event"):
            case "started":
                self._started = event.started
            case "delta":
                timings = {"timings": self._timings.shown()} if self._with_timings else {}
                yield orjson.dumps({"content": event.delta.text, "stop": False} | timings)
            case "finished":
                yield orjson.dumps({"content": ""} | self._end(event.finished))

    def collect(self, events: list[chat_pb2.GenerateEvent]) -> dict[str, Any]:
        text, end = "", chat_pb2.Finished()
        for event in events:
            self._timings.see(event)
            match event.WhichOneof("event"):
                case "started":
                    self._started = event.started
                case "delta":
                    text += event.delta.text
                case "finished":
                    end = event.finished
        return {"content": text} | self._end(end)

    def _end(self, finished: chat_pb2.Finished) -> dict[str, Any]:
        usage, started = finished.usage, self._started
        end = finished.choices[0]
        is_limit = end.reason in CUT_OFF
        kind = "word" if end.HasField("stop_sequence") else "limit" if is_limit else "eos"
        return {
            "stop": True,
            "stop_type": kind,
            "stopping_word": end.stop_sequence,
            "model": started.model.id,
            "tokens_predicted": usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "tokens_cached": usage.cached_tokens,
            "truncated": bool(started.trimmed_tokens),
            "timings": self._timings.shown(),
        } | reduced(started)
