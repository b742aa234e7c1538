"""Lists NVIDIA GPUs without loading a library; only torch's models use them."""

import shutil
import subprocess
from pathlib import Path

NVIDIA = Path("/proc/driver/nvidia/gpus")
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
ASK_WITHIN_S = 2.0


def gpus() -> list[str]:
    """Names of the GPUs, with their memory where it is known."""
    if shutil.which(NVIDIA_SMI[0]):
        try:
            done = subprocess.run(
                NVIDIA_SMI, capture_output=True, text=True, timeout=ASK_WITHIN_S, check=True
            )
        except (OSError, subprocess.SubprocessError):
            # The driver is missing or hangs, so nothing here can use the GPU.
            return []
        return done.stdout.strip().splitlines()
    if not NVIDIA.is_dir():
        return []
    texts = [path.read_text(encoding="utf-8") for path in sorted(NVIDIA.glob("*/information"))]
    return [
        line.partition(":")[2].strip()
        for text in texts
        for line in text.splitlines()
        if line.startswith("Model:")
    ]
