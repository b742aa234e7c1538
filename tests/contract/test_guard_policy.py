"""The guard's policy: read at the start, anew when it changes, and counted by its rules."""

import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.settings import read_or_exit
from gateway.settings import GatewaySettings
from tests.contract.guarded_gateway import CHAT, INJECTION, POLICY, chat, guarded, says
from tests.contract.scripted_worker import ScriptedWorker


async def test_a_changed_policy_is_in_force_at_once_and_a_wrong_one_never(
    worker: ScriptedWorker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "guard.toml"
    statuses = []
    async with guarded(worker, tmp_path) as gateway:
        for text in (
            POLICY,
            '[[rules]]\nname = "x"\naction = "block"\npatterns = ["("]',
            INJECTION,
        ):
            new = path.with_suffix(".new")
            new.write_text(text, encoding="utf-8")
            os.replace(new, path)
            reply = await gateway.http.post(CHAT, json=chat("project falcon"))
            statuses.append(reply.status_code)
    assert statuses == [400, 400, 200]
    assert "the guard keeps its policy" in caplog.text
    assert "rule x: missing ):" in caplog.text


async def test_matches_are_counted_by_rule(worker: ScriptedWorker, tmp_path: Path) -> None:
    worker.generate = says("nice weather, b@x.org and c@x.org")
    async with guarded(worker, tmp_path) as gateway:
        for text in ("weather?", "project falcon"):
            await gateway.http.post(CHAT, json=chat(text))
        page = (await gateway.http.get("/metrics")).text
    counted = {
        (sample.labels["rule"], sample.labels["action"], sample.labels["where"]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "y26hkx_guard_matches_total"
    }
    assert counted == {
        ("see-weather", "flag", "input"): 1,
        ("see-weather", "flag", "output"): 1,
        ("no-mail", "redact", "output"): 2,
        ("no-falcon", "block", "input"): 1,
    }


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("[[rules]", "cannot be read"),
        ('[[rules]]\nname = "x"\naction = "blok"\nwords = ["a"]', "blok"),
        ('[[rules]]\nname = "x"\naction = "block"\nword = ["a"]', "word"),
        ('[[rules]]\nname = "x"\naction = "block"', "rule x has neither words nor patterns"),
        ('[[rules]]\nname = "x"\naction = "block"\npatterns = ["a*"]', "matches where there is no"),
        ('[[rules]]\nname = "x"\naction = "block"\npatterns = ["，"]', "can never match"),
        ('[[rules]]\nname = "x"\naction = "block"\nwords = ["a"]\n' * 2, "more than one rule"),
    ],
)
def test_a_wrong_policy_ends_the_start_with_its_reason(
    policy: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "guard.toml"
    path.write_text(policy, encoding="utf-8")
    monkeypatch.setenv("GUARD_POLICY", str(path))
    with pytest.raises(SystemExit):
        read_or_exit(GatewaySettings, "gateway")
    said = capsys.readouterr().err
    assert "GUARD_POLICY" in said
    assert reason in said
