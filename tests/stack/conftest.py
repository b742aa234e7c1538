"""One stack for all tests that leave it as they found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_stack import RunningStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    log: Path = tmp_path_factory.mktemp("stack") / "stack.log"
    with RunningStack(log) as running:
        yield running
