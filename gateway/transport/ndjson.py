"""Streams of JSON lines, the format of Ollama's API, which has neither comments nor an end mark."""

from collections.abc import AsyncGenerator, Callable

from gateway.transport.sse import EventStream, StreamLimits

CONTENT_TYPE = "application/x-ndjson"


def line(event: bytes) -> bytes:
    return event + b"\n"


def json_lines(
    source: AsyncGenerator[bytes, None],
    limits: StreamLimits,
    headers: Callable[[], list[tuple[bytes, bytes]]] = list,
) -> EventStream:
    """The response that sends each JSON object of `source` as a line.

    A failure before the first line has its HTTP status; a later one is a last line with `error`.
    """
    content_type = CONTENT_TYPE.encode()
    return EventStream(
        source, limits, None, headers, frame=line, done=b"", content_type=content_type
    )
