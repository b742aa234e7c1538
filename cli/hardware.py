"""What the doctor tells of the machine beyond what settings are chosen by; imports no library."""

import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from worker_runtime.machine.gpus import gpus

CPUINFO = Path("/proc/cpuinfo")
# What llama.cpp, torch and OpenVINO are much faster with.
FEATURES = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_bf16", "amx_bf16")
ARM_FEATURES = ("asimd", "asimddp", "bf16", "i8mm", "sve")
# Numbers of IsProcessorFeaturePresent.
WINDOWS_FEATURES = {"avx2": 40, "avx512f": 41}


@dataclass(frozen=True)
class Hardware:
    """
    Args:
        features: of the processor, those of note.
        gpus: of NVIDIA, each with its memory where that is known.
    """

    system: str
    python: str
    processor: str
    features: list[str]
    gpus: list[str]


def hardware() -> Hardware:
    """This machine's."""
    said = from_cpuinfo(CPUINFO.read_text(encoding="utf-8")) if CPUINFO.is_file() else None
    name, features = said or (platform.processor() or platform.machine(), _windows_features())
    return Hardware(platform.platform(), sys.version.split()[0], name, features, gpus())


def from_cpuinfo(text: str) -> tuple[str, list[str]]:
    """Name and features from what Linux writes in /proc/cpuinfo, of the first core."""
    lines = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    has = set(fields.get("flags", fields.get("Features", "")).split())
    name = fields.get("model name") or platform.machine()
    return name, [feature for feature in (*FEATURES, *ARM_FEATURES) if feature in has]


def free_disk_bytes(folder: Path) -> int:
    """Where `folder` is, or would be made."""
    return shutil.disk_usage(nearest(folder)).free


def nearest(folder: Path) -> Path:
    """`folder`, or what is there of the way to it."""
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())


def _windows_features() -> list[str]:
    if sys.platform != "win32":
        return []
    # Not at the top: elsewhere nobody needs it.
    import ctypes

    present = ctypes.windll.kernel32.IsProcessorFeaturePresent
    return [feature for feature, number in WINDOWS_FEATURES.items() if present(number)]
