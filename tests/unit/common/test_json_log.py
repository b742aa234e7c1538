"""Log lines as JSON: whatever is logged, a line is one object."""

import json
import logging
import sys

from cli.child import Relay
from common.json_log import JsonLines


def line(message: str, *values: object, **extra: object) -> dict[str, object]:
    record = logging.LogRecord("a.b", logging.WARNING, "", 1, message, values, None)
    record.__dict__.update(extra)
    found: dict[str, object] = json.loads(JsonLines().format(record))
    return found


def test_a_line_has_the_time_the_level_the_logger_and_the_message() -> None:
    found = line("hello %s", "world\nlevel=ERROR", request_id="-")
    assert found.pop("time")
    assert found == {"level": "WARNING", "logger": "a.b", "message": "hello world\nlevel=ERROR"}


def test_fields_of_a_record_are_fields_of_the_line() -> None:
    found = line("x", fields={"status": 200, "cut": True}, request_id="req_1")
    assert (found["status"], found["cut"], found["request_id"]) == (200, True, "req_1")


def test_a_traceback_is_part_of_its_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 1, "broke", (), sys.exc_info())
    text = JsonLines().format(record)
    assert "\n" not in text
    assert "ValueError: why" in json.loads(text)["exception"]


def test_the_supervisor_adds_the_service_to_json_and_a_prefix_to_text() -> None:
    written: list[bytes] = []
    relay = Relay("gateway", 8, written.append)
    relay.feed(b'{"level": "INFO"}\nplain\n')
    first, second = b"".join(written).splitlines()
    assert json.loads(first) == {"service": "gateway", "level": "INFO"}
    assert second == b"gateway  | plain"
