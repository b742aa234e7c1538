"""Identifies the processor features that compilers use; a build for others may not run."""

import hashlib
import platform
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Only features that compilers use, because kernel updates add and remove others.
USED = re.compile(
    r"(avx|amx|sse|ssse|fma|f16c|bmi|abm|gfni|vaes|vpclmul|asimd|sve|sme|i8mm|bf16|atomics|fphp)\w*"
)


def features_digest() -> str:
    """The digest of this processor's features, which changes with what may be compiled for it."""
    text = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else ""
    return digest_of(text) if text else _digest(platform.machine(), platform.processor())


def digest_of(cpuinfo: str) -> str:
    """The digest of the features in Linux's /proc/cpuinfo, read from the first core."""
    first = cpuinfo.split("\n\n", 1)[0]
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", first, re.MULTILINE)
    names = (line[1] if line else "").split()
    return _digest(platform.machine(), *sorted(n for n in set(names) if USED.fullmatch(n)))


def _digest(*names: str) -> str:
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]
