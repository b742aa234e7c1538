"""The processor's name and the instruction sets that programs can use on this system."""

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Arguments of Windows' IsProcessorFeaturePresent.
WINDOWS_FEATURES = {"avx": 39, "avx2": 40, "avx512f": 41}
SYSCTL = "/usr/sbin/sysctl"
SYSCTL_WITHIN_S = 5.0


@dataclass(frozen=True)
class Processor:
    """The processor's name and instruction sets.

    Args:
        features: names of the instruction sets as the system writes them, sorted.
    """

    name: str
    features: tuple[str, ...]

    def has(self, *features: str) -> list[str]:
        """Those of `features` that the processor has, in the given order."""
        offered = set(self.features)
        return [feature for feature in features if feature in offered]


def read_processor() -> Processor:
    """Read this machine's processor."""
    if CPUINFO.is_file():
        return from_cpuinfo(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    if sys.platform == "darwin":
        return _of_sysctl()
    return Processor(platform.processor() or platform.machine(), _windows_features())


def from_cpuinfo(text: str) -> Processor:
    """Parse the first core's entry of Linux's /proc/cpuinfo."""
    lines = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    features = fields.get("flags", fields.get("Features", "")).split()
    return Processor(fields.get("model name") or platform.machine(), tuple(sorted(set(features))))


def from_sysctl(text: str) -> Processor:
    """Parse the output of macOS's `sysctl machdep.cpu.brand_string hw.optional`."""
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    name = fields.pop("machdep.cpu.brand_string", platform.machine())
    there = (key.rsplit(".", 1)[-1].lower() for key, value in fields.items() if value == "1")
    return Processor(name, tuple(sorted(set(there))))


def _of_sysctl() -> Processor:
    command = [SYSCTL, "machdep.cpu.brand_string", "hw.optional"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SYSCTL_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        # Some sandboxes forbid it; then only the machine's kind is known.
        return Processor(platform.machine(), ())
    return from_sysctl(done.stdout)


def _windows_features() -> tuple[str, ...]:
    if sys.platform != "win32":
        return ()
    # Imported here because other systems do not need it.
    import ctypes

    present = ctypes.windll.kernel32.IsProcessorFeaturePresent
    return tuple(name for name, number in WINDOWS_FEATURES.items() if present(number))
