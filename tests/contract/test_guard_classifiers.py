"""Classifiers of third parties, each in a process of its own, behind the guard."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.guard.classifier import ENTRY_POINT_GROUP
from gateway.guard.policy import WrongPolicy
from gateway.guard.rules import read_rules
from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.installed_backend import install

CHAT = "/v1/chat/completions"
EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/shouting_classifier.py"
FRAGILE = """
import os, time

class Fragile:
    @classmethod
    def load(cls, **options):
        print("this must not get among the answers")
        return cls()

    def score(self, texts):
        if "die" in texts:
            os._exit(3)
        if "sleep" in texts:
            time.sleep(60)
        if "odd" in texts:
            return [float("nan")]
        return [0.0 for _ in texts]
"""


@asynccontextmanager
async def classified(
    worker: ScriptedWorker, folder: Path, patch: pytest.MonkeyPatch, policy: str
) -> AsyncIterator[RunningGateway]:
    site, path = folder / "site", folder / "guard.toml"
    site.mkdir()
    (folder / "fragile_classifier.py").write_text(FRAGILE)
    install(site, EXAMPLE, ENTRY_POINT_GROUP, shouting="ShoutingClassifier")
    install(site, folder / "fragile_classifier.py", ENTRY_POINT_GROUP, fragile="Fragile")
    patch.setenv("PYTHONPATH", str(site))
    patch.syspath_prepend(site)
    path.write_text(policy)
    async with running_gateway([worker], guard_policy=path) as gateway:
        yield gateway


async def status(gateway: RunningGateway, text: str, role: str = "user") -> int:
    body: dict[str, Any] = {"messages": [{"role": role, "content": text}], "max_tokens": 1}
    return (await gateway.http.post(CHAT, json=body)).status_code


async def test_the_documented_example_refuses_what_it_recognises(
    worker: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = '[[classifiers]]\nname = "shouting"\nthreshold = 0.9\noptions = {n_letters = 3}'
    async with classified(worker, tmp_path, monkeypatch, policy) as gateway:
        texts = ("Hello there", "HELLO THERE", "NO")
        assert [await status(gateway, text) for text in texts] == [200, 400, 200]
        assert await status(gateway, "HELLO THERE", "system") == 200
        page = (await gateway.http.get("/metrics")).text
    assert 'guard_matches_total{action="block",rule="shouting",where="input"} 1.0' in page


async def test_a_classifier_that_dies_or_is_late_harms_no_other_request(
    worker: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.guard.classifier_client.RETRY_AFTER_S", 0.0)
    policy = '[[classifiers]]\nname = "fragile"\ntimeout_s = 0.5'
    async with classified(worker, tmp_path, monkeypatch, policy) as gateway:
        texts = ("hi", "odd", "die", "hi", "sleep", "hi")
        found = [await status(gateway, text) for text in texts]
    assert found == [200, 503, 503, 200, 503, 200]


async def test_a_policy_may_let_requests_pass_when_its_classifier_fails(
    worker: ScriptedWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = '[[classifiers]]\nname = "fragile"\non_failure = "pass"'
    async with classified(worker, tmp_path, monkeypatch, policy) as gateway:
        assert await status(gateway, "die") == 200


def test_a_policy_with_a_classifier_that_is_not_installed_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "guard.toml"
    path.write_text('[[classifiers]]\nname = "nowhere"')
    with pytest.raises(WrongPolicy, match="no installed package has the classifier nowhere"):
        read_rules(path)
