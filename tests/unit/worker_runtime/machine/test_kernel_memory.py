"""What is kept of the self-test and of models that broke down, and what follows for loads."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from tests.faulting_kernels import faulting_library, require_reached
from tests.unit.worker_runtime.entries import entry
from worker_runtime.lifecycle.load_options import WITHOUT_EXTRA_BUFFERS, LoadOption
from worker_runtime.machine import kernel_memory
from worker_runtime.machine.kernel_memory import Fault, KernelMemory
from worker_runtime.machine.kernel_report import KernelReport, NotTested, Outcome
from worker_runtime.memory.need import Need

GOOD = KernelReport("a processor", "", Outcome(), Outcome(), 0.0)
PLAIN = msgspec.Raw(msgspec.msgpack.encode("plain"))
RUNG = LoadOption(entry("model"), Need(weights=1), plain_spec=PLAIN)
OTHER = LoadOption(
    msgspec.structs.replace(entry("other"), fingerprint="fp_other"), Need(), (), PLAIN
)


@pytest.fixture
def tests(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """The environments of self-tests, each of which is passed at once."""
    made: list[Mapping[str, str]] = []

    def run(environment: Mapping[str, str]) -> KernelReport:
        made.append(environment)
        return GOOD

    monkeypatch.setattr(kernel_memory, "run_selftest", run)
    return made


def memory(folder: Path, **variables: str) -> KernelMemory:
    environment = {**os.environ, **variables}  # noqa: TID251 - the test is the outermost caller
    return KernelMemory(folder / "kernels.json", lambda: environment)


async def test_the_self_test_is_run_once_for_a_library_and_a_processor(
    tmp_path: Path, tests: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert await memory(tmp_path).allowed([RUNG]) == [RUNG]
    assert len(tests) == 1
    monkeypatch.setattr(kernel_memory, "identity", lambda: "another processor")
    await memory(tmp_path).allowed([RUNG])
    assert len(tests) == 2


async def test_models_of_other_libraries_need_no_self_test(
    tmp_path: Path, tests: list[object]
) -> None:
    options = [msgspec.structs.replace(RUNG, plain_spec=None)]
    assert await memory(tmp_path).allowed(options) == options
    assert not tests


async def test_after_a_self_test_that_failed_all_models_are_loaded_without_extra_buffers(
    tmp_path: Path,
) -> None:
    faulting = memory(tmp_path, **faulting_library(tmp_path))
    require_reached(faulting.report().extra)
    for known in (faulting, memory(tmp_path)):
        (option,) = await known.allowed([RUNG])
        assert bytes(option.entry.load_spec) == bytes(PLAIN)
        assert option.reductions == (WITHOUT_EXTRA_BUFFERS,)
    assert memory(tmp_path).report(again=True).may_use_extra_buffers
    assert await memory(tmp_path).allowed([RUNG]) == [RUNG]


async def test_a_model_that_broke_down_and_works_without_is_remembered_alone(
    tmp_path: Path, tests: list[object]
) -> None:
    known = memory(tmp_path)
    await known.allowed([RUNG])
    known.broke_down(RUNG, "signal 11 SIGSEGV")
    (plain,) = await known.allowed([RUNG])
    assert plain.plain_spec is None
    assert not memory(tmp_path).read().faults
    known.loaded(plain)
    assert memory(tmp_path).read().faults == {
        RUNG.entry.fingerprint: Fault(RUNG.entry.id, "signal 11 SIGSEGV")
    }
    again = await memory(tmp_path).allowed([RUNG, OTHER])
    assert again == [plain, OTHER]


async def test_a_model_that_breaks_down_in_plain_code_too_is_not_remembered(
    tmp_path: Path, tests: list[object]
) -> None:
    known = memory(tmp_path)
    known.broke_down(RUNG, "signal 11 SIGSEGV")
    known.broke_down(RUNG.without_extra_buffers(), "signal 11 SIGSEGV")
    assert not memory(tmp_path).read().faults


async def test_where_no_test_can_be_made_models_are_loaded_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: Mapping[str, str]) -> KernelReport:
        raise NotTested("llama-cpp-python is missing")

    monkeypatch.setattr(kernel_memory, "run_selftest", missing)
    assert await memory(tmp_path).allowed([RUNG]) == [RUNG]
    assert not (tmp_path / "kernels.json").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"x": 1}', b"\xff"])
async def test_a_file_that_is_not_ours_is_written_anew(
    tmp_path: Path, tests: list[object], content: bytes
) -> None:
    (tmp_path / "kernels.json").write_bytes(content)
    await memory(tmp_path).allowed([RUNG])
    assert memory(tmp_path).read().report == GOOD


async def test_a_folder_that_cannot_be_written_costs_the_memory_alone(
    tmp_path: Path, tests: list[object]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert await memory(tmp_path / "file").allowed([RUNG]) == [RUNG]
