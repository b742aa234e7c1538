"""What the doctor reports about the machine beside the profile; imports no library."""

import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from worker_runtime.machine.gpus import gpus
from worker_runtime.machine.processor import read_processor

# The instruction sets that make llama.cpp, torch and OpenVINO much faster.
FEATURES = (
    *("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
)
ARM_FEATURES = ("asimd", "asimddp", "bf16", "i8mm", "sve")


@dataclass(frozen=True)
class Hardware:
    """
    Args:
        features: those instruction sets of the processor that matter here.
        gpus: NVIDIA's, each with its memory where that is known.
    """

    system: str
    python: str
    processor: str
    features: list[str]
    gpus: list[str]


def hardware() -> Hardware:
    """The hardware of this machine."""
    processor = read_processor()
    features = processor.has(*FEATURES, *ARM_FEATURES)
    return Hardware(platform.platform(), sys.version.split()[0], processor.name, features, gpus())


def free_disk_bytes(folder: Path) -> int:
    """Free space of the disk where `folder` is, or would be created."""
    return shutil.disk_usage(nearest(folder)).free


def nearest(folder: Path) -> Path:
    """`folder`, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())
