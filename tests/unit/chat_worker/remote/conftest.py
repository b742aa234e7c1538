"""A server whose replies are scripted, and an engine process that asks it."""

from collections.abc import Iterator

import pytest

from tests.unit.chat_worker.engine_pipe import EnginePipe
from tests.unit.chat_worker.remote.remote_engine import MODULE, spec
from tests.unit.chat_worker.remote.scripted_upstream import ScriptedUpstream
from worker_runtime.engine_process import protocol


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def engine(upstream: ScriptedUpstream) -> Iterator[EnginePipe]:
    with EnginePipe(MODULE) as pipe:
        assert isinstance(pipe.load_spec(spec(upstream)), protocol.Loaded)
        yield pipe
