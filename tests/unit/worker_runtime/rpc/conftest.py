"""Servers of workers in the test's process."""

import pytest


@pytest.fixture(autouse=True)
def _memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gives start-up memory back in a process of its own. In this one it would collect and
    trim what the native libraries of other tests have left."""
    monkeypatch.setattr("worker_runtime.rpc.server.release_start_up_memory", lambda: None)
