"""The lines of a batch's input file, and of its output and error files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from gateway.batches.records import Mistake

MOST_LINES = 50_000
MOST_MISTAKES = 10
NEWLINE = b"\n"


class Line(msgspec.Struct):
    """One request: `body` is that of its endpoint."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    url: str
    body: dict[str, Any]
    method: str = "POST"


class Checked(NamedTuple):
    total: int
    mistakes: list[Mistake]


_line = msgspec.json.Decoder(Line)
_id = msgspec.json.Decoder(dict[str, Any])


def check(path: Path, endpoint: str, longest_bytes: int) -> Checked:
    """Count the lines of an input file, and find what is wrong with them.

    Args:
        endpoint: the path that all of them must have.
    """
    mistakes: list[Mistake] = []
    ids: set[str] = set()
    total = 0
    for number, raw in _numbered(path):
        total += 1
        if fault := _fault(raw, endpoint, longest_bytes, ids):
            mistakes.append(Mistake(*fault, line=number))
        if len(mistakes) >= MOST_MISTAKES or total > MOST_LINES:
            break
    if not total:
        mistakes.append(Mistake("empty_file", "the input file has no requests"))
    if total > MOST_LINES:
        mistakes.append(Mistake("too_many_requests", f"a batch has at most {MOST_LINES} requests"))
    return Checked(total, mistakes)


def requests(path: Path, done: set[str]) -> Iterator[Line]:
    """The requests of a file that was checked, but those that are `done`."""
    for _, raw in _numbered(path):
        line = _line.decode(raw)
        if line.custom_id not in done:
            yield line


def answered(path: Path) -> set[str]:
    """The ids of the requests that an output or error file answers.

    A last line that is not whole, of a gateway that was killed, is cut off.
    """
    if not path.exists():
        return set()
    data = path.read_bytes()
    whole = data[: data.rfind(NEWLINE) + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    return {_id.decode(line)["custom_id"] for line in whole.splitlines() if line}


def answer_line(id: str, line: Line, status: int, request_id: str, body: bytes) -> bytes:
    """A line of the output file, or for a status that is no success of the error file."""
    response = {"status_code": status, "request_id": request_id, "body": msgspec.Raw(body)}
    answer = {"id": id, "custom_id": line.custom_id, "response": response, "error": None}
    return msgspec.json.encode(answer) + NEWLINE


def failure_line(id: str, line: Line, code: str, message: str) -> bytes:
    """A line of the error file for a request that was not made."""
    error = {"code": code, "message": message}
    answer = {"id": id, "custom_id": line.custom_id, "response": None, "error": error}
    return msgspec.json.encode(answer) + NEWLINE


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                yield number, raw


def _fault(raw: bytes, endpoint: str, longest_bytes: int, ids: set[str]) -> tuple[str, str] | None:
    """The code and the message of what is wrong with a line."""
    if len(raw) > longest_bytes:
        return "line_too_long", f"a request has at most {longest_bytes} bytes"
    try:
        line = _line.decode(raw)
    except msgspec.DecodeError as error:
        return "invalid_json_line", str(error)[:200]
    if line.custom_id in ids:
        return "duplicate_custom_id", "another request has the same custom_id"
    ids.add(line.custom_id)
    if line.method != "POST" or line.url != endpoint:
        return "mismatched_endpoint", f"each request must be POST {endpoint}"
    if line.body.get("stream"):
        return "stream_not_supported", "a request of a batch cannot be streamed"
    return None
