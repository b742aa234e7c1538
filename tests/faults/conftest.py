"""Each fault gets a stack of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_stack import RunningStack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    with RunningStack(tmp_path / "stack.log") as running:
        yield running
