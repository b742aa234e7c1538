"""What a gateway repeats of what its supervisor told."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from cli.service import Condition
from gateway.transport import supervision
from gateway.transport.supervision import Supervision

RUNNING = Condition("running", 0, "", None)
CRASHING = Condition("breaker_open", 5, "exited with status 1: no memory", 60.0)


def line(**services: Condition) -> bytes:
    return json.dumps({"services": {n: asdict(c) for n, c in services.items()}}).encode()


class Clock:
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def test_without_a_supervisor_there_is_nothing_to_tell() -> None:
    assert Supervision().services() == {}
    assert Supervision().warnings() == []


def test_what_the_supervisor_writes_is_told_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(supervision, "time", clock)
    heard = Supervision()
    heard.hear(line(gateway=RUNNING, chat=CRASHING))
    clock.now_s += 20
    assert heard.services() == {
        "gateway": {"state": "running", "n_restarts": 0, "reason": "", "next_start_in_s": None},
        "chat": {**asdict(CRASHING), "next_start_in_s": 40.0},
    }
    assert heard.warnings() == ["service_keeps_crashing"]
    clock.now_s += 1000
    assert heard.services()["chat"]["next_start_in_s"] == 0


def test_the_last_line_counts() -> None:
    heard = Supervision()
    heard.hear(line(chat=CRASHING))
    heard.hear(line(chat=RUNNING))
    assert heard.services()["chat"]["state"] == "running"
    assert heard.warnings() == []


@pytest.mark.parametrize(
    "strange", [b"", b"hello", b"[]", b'{"services": 3}', b'{"services": {"a": {}}}', b"\xff\x00"]
)
def test_what_is_no_report_changes_nothing(strange: bytes) -> None:
    heard = Supervision()
    heard.hear(line(chat=RUNNING))
    before: dict[str, Any] = heard.services()
    heard.hear(strange)
    assert heard.services() == before
