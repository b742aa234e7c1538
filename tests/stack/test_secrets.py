"""A secret is in the environment of the processes that need it, and in no other."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.running_stack import GUIDE, MINILM, RunningStack

KEY = "canary-client-key"
SECRETS = {
    "API_KEYS": KEY,
    "RATE_LIMIT_STORAGE": "memory://canary-password",
    "REMOTE_API_KEYS": '{"far": "canary-remote-key"}',
    "WORKER_TOKEN": "canary-worker-token",
    "SOMEBODY_ELSES_SECRET": "canary-of-another-program",
}
# Who may know what; the supervisor was told all.
KNOWN_TO = {
    "cli": set(SECRETS),
    "gateway": {"API_KEYS", "RATE_LIMIT_STORAGE", "WORKER_TOKEN"},
    "chat_worker": {"REMOTE_API_KEYS", "WORKER_TOKEN"},
    "embed_worker": {"WORKER_TOKEN"},
    "chat_worker.engine_process": set(),
    "embed_worker.encoder_process": set(),
}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    with RunningStack(tmp_path / "stack.log", **SECRETS) as running:
        running.http.headers["x-api-key"] = KEY
        yield running


def test_each_process_has_the_secrets_that_it_needs_and_no_others(stack: RunningStack) -> None:
    for model in (GUIDE, MINILM):
        stack.http.post("/v1/models/load", json={"model": model}).raise_for_status()
    for module, known in KNOWN_TO.items():
        processes = stack.find(module)
        assert processes, f"{module} does not run"
        for process in processes:
            assert _secrets_of(process) == known, module
    for process in stack.processes():
        assert "canary" not in " ".join(process.cmdline())


def _secrets_of(process: psutil.Process) -> set[str]:
    return {name for name, value in process.environ().items() if "canary" in value}
