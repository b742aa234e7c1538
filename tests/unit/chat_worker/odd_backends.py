"""Backends that do what the example does not; installed as a module of their own by a test."""

from collections.abc import Iterator
from typing import Any, Self

from common.errors import InvalidRequest


class Whole:
    """Does not stream, and counts nothing."""

    @classmethod
    def load(cls, path: str, **options: Any) -> Self:
        return cls()

    def supports_stream(self) -> bool:
        return False

    def generate(self, messages: Any, **options: Any) -> Any:
        asked = sorted(options.items())
        return {"text": f"{[m['role'] for m in messages]} {asked}"}

    def stream_generate(self, messages: Any, **options: Any) -> Iterator[str]:
        raise AssertionError("it does not stream")


class Endless(Whole):
    """Streams until it is closed."""

    def supports_stream(self) -> bool:
        return True

    def stream_generate(self, messages: Any, **options: Any) -> Iterator[str]:
        while True:
            yield "on "


class Mistyped(Whole):
    """Streams something else than text."""

    def supports_stream(self) -> bool:
        return True

    def stream_generate(self, messages: Any, **options: Any) -> Iterator[Any]:
        yield b"bytes"


class Failing(Whole):
    """Fails as the user says."""

    def generate(self, messages: Any, **options: Any) -> Any:
        match messages[-1]["content"]:
            case "raise":
                raise ValueError("a secret of the library")
            case "refuse":
                raise InvalidRequest("too rude", param="messages")
            case "nothing":
                return {}
            case "surrogate":
                return {"text": "\ud800"}
        return {"text": "fine"}


class Unloadable(Whole):
    @classmethod
    def load(cls, path: str, **options: Any) -> Self:
        raise RuntimeError("a secret path")


class Incomplete:
    @classmethod
    def load(cls, path: str, **options: Any) -> Self:
        return cls()
