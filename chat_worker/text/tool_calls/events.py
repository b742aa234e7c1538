"""What a reply with tool calls is made of, in the order in which it was written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call of a known tool; `index` counts the calls of one reply from 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of a call's arguments, as JSON text."""

    index: int
    text: str


ReplyEvent = TextPiece | CallStarted | CallArguments
