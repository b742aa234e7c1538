"""For all tests: what their loads teach is not kept where the user's programs look for it."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_lessons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMORY_LEARNT_DIR", str(tmp_path_factory.mktemp("learnt")))
        yield
