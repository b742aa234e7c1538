"""The messages on the pipe between a worker and its engine process: frames of msgpack.

The outer messages are the same for all engines. `body`, `spec` and `facts` are the engine's own
structs; they stay encoded here (`msgspec.Raw`), because this layer only passes them on.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from common.error_texts import ErrorText, known_text
from common.errors import ServingError, error_type
from common.frames import LENGTH


class PipeText(Struct):
    """An `ErrorText` on the pipe; `id` is empty for a text that is not from the catalogue."""

    english: str
    id: str = ""
    fields: dict[str, "PipeText"] = {}

    @classmethod
    def of(cls, text: str) -> "PipeText":
        if not isinstance(text, ErrorText):
            return cls(_sendable(text))
        fields = {name: cls.of(value) for name, value in text.fields.items()}
        return cls(str(text), text.id, fields)

    def text(self) -> str:
        """The text; plain English if the sender has another catalogue, which happens during an
        upgrade, because new engine processes start before the worker is restarted."""
        fields = {name: value.text() for name, value in self.fields.items()}
        return (known_text(self.id, fields) if self.id else None) or self.english


class PipeError(Struct):
    """A `ServingError` on the pipe."""

    code: str
    text: PipeText
    param: str | None = None
    retry_after_s: float | None = None
    suggested: tuple[PipeText, ...] = ()
    metadata: dict[str, str] = {}

    @property
    def message(self) -> str:
        return self.text.english

    @property
    def suggestions(self) -> tuple[str, ...]:
        return tuple(text.english for text in self.suggested)

    @classmethod
    def of(cls, error: ServingError) -> "PipeError":
        return cls(
            error.code,
            PipeText.of(error.message),
            error.param,
            error.retry_after_s,
            tuple(map(PipeText.of, error.suggestions)),
            {key: _sendable(value) for key, value in error.metadata.items()},
        )

    def error(self) -> ServingError:
        return error_type(self.code)(
            self.text.text(),
            param=self.param,
            retry_after_s=self.retry_after_s,
            suggestions=tuple(text.text() for text in self.suggested),
            metadata=self.metadata,
        )


# From worker to engine.


class Load(Struct, tag="load"):
    """Load the model. The first message, sent once."""

    spec: Raw


class Submit(Struct, tag="submit"):
    """Begin a call. A process never sees the same `id` twice."""

    id: int
    body: Raw


class Cancel(Struct, tag="cancel"):
    """Stop a call within one step. A message of the call may still cross this one."""

    id: int


class Shed(Struct, tag="shed"):
    """Free the caches of past work; sent while no call is open. Later calls work as before, but may
    take longer."""


class LimitCaches(Struct, tag="limit_caches"):
    """Keep no more than `max_bytes` of past work from now on, beyond what the model always takes.
    Sent at any time after the load; until the first one the limit is 0."""

    max_bytes: int


class Ping(Struct, tag="ping"):
    """Answer with a `Pong` at once, even while the model computes."""


class Stop(Struct, tag="stop"):
    """Exit now, normally with code 0. To close the pipe means the same."""


Command = Load | Submit | Cancel | Shed | LimitCaches | Ping | Stop

# From engine to worker.


class Progress(Struct, tag="progress"):
    """Load progress; `fraction` is from 0 to 1."""

    fraction: float
    stage: str = ""


class Loaded(Struct, tag="loaded"):
    """The model is loaded; `facts` is the engine's own struct."""

    facts: Raw


class LoadFailed(Struct, tag="load_failed"):
    """The load failed; the process exits after this message."""

    error: PipeError


class Event(Struct, tag="event"):
    """One event of a call."""

    id: int
    body: Raw


class Ended(Struct, tag="ended"):
    """The last message of a call, with an error if it ended early."""

    id: int
    error: PipeError | None = None


class Pong(Struct, tag="pong"):
    """The process runs; `overdue` names one of its threads that is stuck, if there is one."""

    overdue: str = ""


Report = Progress | Loaded | LoadFailed | Event | Ended | Pong

_encoder = msgspec.msgpack.Encoder()
command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
report_decoder: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def _sendable(text: str) -> str:
    """Errors contain file names, which may be invalid Unicode; msgpack and gRPC refuse that."""
    return text.encode("utf-8", "backslashreplace").decode()


def raw(message: Any) -> Raw:
    """Encode a struct to be used as `body`, `spec` or `facts`."""
    return Raw(_encoder.encode(message))


def frame(message: Command | Report) -> bytearray:
    """Encode `message` as a frame."""
    # Encoded directly behind the length, so that megabytes of vectors are not copied again.
    framed = bytearray(LENGTH.size)
    _encoder.encode_into(message, framed, LENGTH.size)
    LENGTH.pack_into(framed, 0, len(framed) - LENGTH.size)
    return framed
