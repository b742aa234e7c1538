"""For all tests: what their loads teach is not kept where the user's programs look for it; which
of them are slow; the processor is named, as kernels differ by it; and nothing is printed after
pytest's summary line."""

import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cli.hardware import hardware

# Thousands of examples where the suite runs a few: `pytest --hypothesis-profile=many
# --hypothesis-show-statistics tests/unit/worker_runtime/test_fuzzed_folders.py`.
settings.register_profile("many", max_examples=3000, deadline=None, print_blob=True)
# On a busy machine an example may take any time.
settings.register_profile("usual", settings(), deadline=None)
settings.load_profile("usual")

EXIT_WITHIN_S = 60
TESTS = Path(__file__).parent
# Whole services, or models that are loaded, converted and compared: left out by -m "not slow".
SLOW_FOLDERS = ("clients", "containers", "faults", "models", "stack")
SLOW_MODULES = (
    "contract/test_departures.py",
    "contract/test_draining.py",
    "contract/test_fuzzed_api.py",
    "contract/test_ollama_refused.py",
    "unit/bootstrap/test_unused_files.py",
    "unit/chat_worker/test_infill.py",
    "unit/chat_worker/test_memory_estimate.py",
    "unit/chat_worker/test_openvino_load.py",
    "unit/chat_worker/test_openvino_results.py",
    "unit/chat_worker/test_prefix_memory.py",
    "unit/chat_worker/test_transformers_engine.py",
    "unit/cli/test_made_key.py",
    "unit/cli/test_supervisor.py",
    "unit/downloads/test_broken_hubs.py",
    "unit/downloads/test_killed.py",
    "unit/deploy/test_entry_commands.py",
    "unit/embed_worker/test_architectures.py",
    "unit/embed_worker/test_encoder_process.py",
    "unit/embed_worker/test_memory_estimate.py",
    "unit/embed_worker/test_openvino_conversions.py",
    "unit/embed_worker/test_openvino_encoder.py",
    "unit/embed_worker/test_prepared.py",
    "unit/common/test_gc_tuning.py",
    "unit/worker_runtime/engine_process/test_client.py",
    "unit/worker_runtime/lifecycle/test_state_machine.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, by folder and module: what is slow in them is what they are about."""
    slow = [TESTS / name for name in SLOW_FOLDERS + SLOW_MODULES]
    for item in items:
        if any(path == item.path or path in item.path.parents for path in slow):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def own_lessons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMORY_LEARNT_DIR", str(tmp_path_factory.mktemp("learnt")))
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    machine = hardware()
    terminalreporter.write_line(f"processor: {machine.processor}: {' '.join(machine.features)}")


def pytest_unconfigure() -> None:
    """Let pytest end, whatever a failed test left running: a server of gRPC's keeps Python from it.

    Also close what llama-cpp-python leaves open, which Python would complain of at its exit.
    """
    module = sys.modules.get("llama_cpp._utils")
    for name in ("outnull_file", "errnull_file"):
        if (file := getattr(module, name, None)) is not None:
            file.close()
    # A copy of stderr, since pytest closes the file that it gave to faulthandler.
    faulthandler.dump_traceback_later(EXIT_WITHIN_S, exit=True, file=os.dup(2))
