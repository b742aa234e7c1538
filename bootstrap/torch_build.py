"""Chooses the build of torch: without an NVIDIA GPU the CPU build, which is a tenth of the size.

The CPU build is searched in the local find-links folders, then in the configured indexes, then in
PyTorch's own CPU index. If none has it, the set-up stops and says so: several GB of CUDA libraries
are installed only on a machine with a GPU, or if the user requests them by Y26HKX_TORCH.
"""

import platform
import re
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.indexes import find_links_folders
from bootstrap.lock import PYPROJECT, Lock
from bootstrap.progress import Step, say
from bootstrap.settings import Settings, SetupError
from bootstrap.uv import Uv

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_S = 3.0
WHEEL = re.compile(
    r"^torch-(?P<version>[^-]+)(?:-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<system>[^-]+)\.whl$"
)


@dataclass(frozen=True)
class Machine:
    """What decides whether a wheel fits.

    Args:
        python: version, such as (3, 11).
        system: linux, darwin or win32.
        cpu: x86_64, aarch64, arm64, amd64; lower case.
        glibc: version on Linux, such as (2, 36); (0, 0) with musl.
    """

    python: tuple[int, int]
    system: str
    cpu: str
    glibc: tuple[int, int] = (0, 0)

    @classmethod
    def here(cls) -> "Machine":
        name, version = platform.libc_ver()
        parts = [int(part) for part in version.split(".")[:2] if part.isdigit()]
        glibc = (parts[0], parts[1]) if name == "glibc" and len(parts) > 1 else (0, 0)
        return cls(sys.version_info[:2], sys.platform, platform.machine().lower(), glibc)

    @property
    def index_has_cpu_build(self) -> bool:
        """Whether PyPI's build for this system is the CPU build anyway."""
        return self.system in {"darwin", "win32"}


def install(uv: Uv, lock: Lock, settings: Settings) -> None:
    """Install torch into .venv.

    Raises:
        SetupError: no build that fits can be reached; the message says what to do.
    """
    machine = Machine.here()
    if settings.torch in {"cuda", "pypi"}:
        _install_default(uv, lock, f"as Y26HKX_TORCH={settings.torch} asks")
    elif settings.torch == "auto" and has_nvidia_gpu():
        _install_default(uv, lock, "this machine has an NVIDIA GPU; Y26HKX_TORCH=cpu avoids it")
    else:
        _install_cpu(uv, lock, machine)


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver is installed, so that a CUDA build of torch is useful."""
    if sys.platform == "win32":
        return shutil.which("nvcuda.dll") is not None or shutil.which("nvidia-smi") is not None
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def matching_wheel(names: Iterable[str], machine: Machine, at_least: str, locked: str) -> str:
    """The best CPU wheel of torch among file names; "" if none fits.

    The locked version is best, then the highest.
    """
    fitting: list[tuple[bool, tuple[int, ...], str]] = []
    for name in names:
        wheel = WHEEL.match(name)
        if wheel is None or not _fits(wheel, machine):
            continue
        version, _, local = wheel["version"].partition("+")
        if local != "cpu" and not machine.index_has_cpu_build:
            # Without "+cpu" it is PyPI's wheel, which needs the CUDA libraries on Linux.
            continue
        if _numbers(version) >= _numbers(at_least):
            fitting.append((version == locked, _numbers(version), name))
    return max(fitting)[2] if fitting else ""


def reachable(url: str, variables: Mapping[str, str]) -> bool:
    """Whether `url` answers within `PROBE_S` seconds."""
    bundle = variables.get("SSL_CERT_FILE")
    context = ssl.create_default_context(cafile=bundle) if bundle else None
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=PROBE_S, context=context):
            return True
    except urllib.error.HTTPError:
        # It answered; uv will see what it contains.
        return True
    except OSError:
        return False


def _install_default(uv: Uv, lock: Lock, why: str) -> None:
    with Step(f"installing torch {lock.torch}", hint=f"{why}; on Linux several GB") as step:
        step.call(uv.install_with_dependencies(f"torch=={lock.torch}"), uv.env)


def _install_cpu(uv: Uv, lock: Lock, machine: Machine) -> None:
    with Step(f"installing torch {lock.torch}", hint="CPU build, about 200 MB") as step:
        for folder in find_links_folders(uv.env):
            names = [entry.name for entry in folder.iterdir()]
            wheel = matching_wheel(names, machine, oldest_torch(), lock.torch)
            if wheel:
                say(f"  from {folder / wheel}")
                step.call(uv.install(folder / wheel), uv.env)
                return
        if machine.index_has_cpu_build:
            step.call(uv.install(f"torch=={lock.torch}"), uv.env)
            return
        cpu_build = f"torch=={lock.torch}+cpu"
        if step.attempt(uv.install(cpu_build), uv.env):
            return
        if reachable(CPU_INDEX, uv.env):
            step.call(uv.install(cpu_build, "--index", CPU_INDEX), uv.env)
            return
        raise SetupError(_no_cpu_build(lock.torch, machine))


def oldest_torch(pyproject: Path = PYPROJECT) -> str:
    """The lower bound that pyproject.toml sets for torch."""
    bound = re.search(r'"torch>=([\d.]+)[,"]', pyproject.read_text(encoding="utf-8"))
    assert bound is not None, "pyproject.toml sets no lower bound for torch"
    return bound[1]


def _no_cpu_build(version: str, machine: Machine) -> str:
    tag = f"cp{machine.python[0]}{machine.python[1]}"
    return (
        f"The CPU build of torch {version} cannot be reached. Looked in the find-links folders,\n"
        f"the configured package indexes and {CPU_INDEX}. What you can do:\n"
        f"- let this machine reach {CPU_INDEX} and run this again;\n"
        f"- put torch-{version}+cpu-{tag}-{tag}-…{machine.cpu}.whl into a folder and name it:\n"
        "  PIP_FIND_LINKS=/that/folder python3 run.py serve;\n"
        "- take the package index's default build, with CUDA libraries of several GB:\n"
        "  Y26HKX_TORCH=pypi python3 run.py serve"
    )


def _fits(wheel: re.Match[str], machine: Machine) -> bool:
    tag = f"cp{machine.python[0]}{machine.python[1]}"
    if wheel["python"] != tag or wheel["abi"] not in {tag, "abi3"}:
        return False
    return any(_fits_system(system, machine) for system in wheel["system"].split("."))


def _fits_system(tag: str, machine: Machine) -> bool:
    if not tag.endswith(f"_{machine.cpu}"):
        return False
    if machine.system == "win32":
        return tag.startswith("win_")
    if machine.system == "darwin":
        return tag.startswith("macosx_")
    if glibc := re.match(r"manylinux_(\d+)_(\d+)_", tag):
        return (int(glibc[1]), int(glibc[2])) <= machine.glibc
    return tag.startswith(("manylinux1_", "manylinux2010_", "manylinux2014_", "linux_"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
