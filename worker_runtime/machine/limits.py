"""What the containers or groups around this process let it take (cgroups, versions 1 and 2)."""

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
# Version 1 writes "no limit" as the largest page-aligned int64.
UNLIMITED_BYTES = 1 << 60


def memory(root: Path = ROOT) -> Iterator[tuple[int, int]]:
    """(limit, bytes used that the kernel cannot drop) of each group that has a limit."""
    for group in _groups(root, "memory"):
        limit = number(group / "memory.max") or number(group / "memory.limit_in_bytes")
        used = number(group / "memory.current") or number(group / "memory.usage_in_bytes")
        if limit is not None and limit < UNLIMITED_BYTES:
            yield limit, (used or 0) - _file_pages(group)


def cores(root: Path = ROOT) -> float | None:
    """Processor time that may be taken, in cores; None: no limit."""
    found = []
    for group in _groups(root, "cpu"):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        quota = quota or _text(group / "cpu.cfs_quota_us")
        period = period or _text(group / "cpu.cfs_period_us")
        # "max" or -1: none.
        if quota.isdigit() and period.isdigit():
            found.append(int(quota) / int(period))
    return min(found, default=None)


def number(path: Path) -> int | None:
    """The number that is all of a file; None if there is none."""
    text = _text(path)
    return int(text) if text.isdigit() else None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """This process's groups for `controller`, up to the outermost that is seen from here."""
    if sys.platform != "linux":
        return
    for line in _text(OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:depth])


def _file_pages(group: Path) -> int:
    fields = dict(line.split(" ", 1) for line in _text(group / "memory.stat").splitlines())
    return int(fields.get("total_inactive_file") or fields.get("inactive_file") or 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        # Not mounted, or of another namespace: then it limits nothing that is seen from here.
        return ""
