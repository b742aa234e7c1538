"""For all tests: what their loads teach is not kept where the user's programs look for it; and
nothing is printed after pytest's summary line."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Thousands of examples where the suite runs a few: `pytest --hypothesis-profile=many
# --hypothesis-show-statistics tests/unit/worker_runtime/test_fuzzed_folders.py`.
settings.register_profile("many", max_examples=3000, deadline=None, print_blob=True)


@pytest.fixture(scope="session", autouse=True)
def own_lessons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMORY_LEARNT_DIR", str(tmp_path_factory.mktemp("learnt")))
        yield


def pytest_unconfigure() -> None:
    """Close what llama-cpp-python leaves open, which Python would complain of at its exit."""
    module = sys.modules.get("llama_cpp._utils")
    for name in ("outnull_file", "errnull_file"):
        if (file := getattr(module, name, None)) is not None:
            file.close()
