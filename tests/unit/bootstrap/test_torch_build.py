"""Which torch wheel a machine takes."""

import pytest

from bootstrap.torch_build import Machine, matching_wheel, oldest_torch

LINUX = Machine((3, 11), "linux", "x86_64", (2, 36))
CPU_LINUX = "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"


def test_the_cpu_wheel_for_this_python_and_system_is_taken() -> None:
    names = [
        "torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl",
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_aarch64.whl",
        "torch-2.13.0+cpu-cp311-cp311-win_amd64.whl",
        "torchvision-0.28.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "notes.txt",
        CPU_LINUX,
    ]
    assert matching_wheel(names, LINUX, "2.6", "2.13.0") == CPU_LINUX


@pytest.mark.parametrize(
    "name",
    [
        "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.13.0+cu130-cp311-cp311-manylinux_2_28_x86_64.whl",
    ],
)
def test_a_cuda_wheel_is_never_taken_for_a_cpu_wheel(name: str) -> None:
    assert matching_wheel([name], LINUX, "2.6", "2.13.0") == ""


def test_the_locked_version_is_best_then_the_highest() -> None:
    names = [CPU_LINUX.replace("2.13.0", version) for version in ("2.9.1", "2.13.0", "2.14.1")]
    assert matching_wheel(names, LINUX, "2.6", "2.13.0") == names[1]
    assert matching_wheel(names, LINUX, "2.6", "2.12.0") == names[2]
    assert matching_wheel(names[:1], LINUX, "2.10", "2.13.0") == ""


def test_a_wheel_for_a_newer_glibc_does_not_fit() -> None:
    assert (
        matching_wheel([CPU_LINUX], Machine((3, 11), "linux", "x86_64", (2, 17)), "2.6", "") == ""
    )
    musl = Machine((3, 11), "linux", "x86_64", (0, 0))
    assert matching_wheel([CPU_LINUX], musl, "2.6", "") == ""


def test_where_the_index_has_the_cpu_build_the_plain_wheel_is_one() -> None:
    windows = Machine((3, 12), "win32", "amd64")
    apple = Machine((3, 12), "darwin", "arm64")
    for_windows = "torch-2.13.0-cp312-cp312-win_amd64.whl"
    for_apple = "torch-2.13.0-cp312-none-macosx_11_0_arm64.whl".replace("none", "cp312")
    assert matching_wheel([for_windows, for_apple], windows, "2.6", "") == for_windows
    assert matching_wheel([for_windows, for_apple], apple, "2.6", "") == for_apple


def test_the_lower_bound_is_read_from_the_project() -> None:
    assert oldest_torch() == "2.8"
