"""A scripted worker, and a gateway before it."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.running_gateway import RunningGateway, running_gateway
from tests.contract.scripted_worker import ScriptedWorker


@pytest.fixture
async def worker() -> AsyncIterator[ScriptedWorker]:
    scripted = ScriptedWorker()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def gateway(worker: ScriptedWorker) -> AsyncIterator[RunningGateway]:
    async with running_gateway([worker]) as running:
        yield running
