"""Memory limits of the control groups around this process (Linux). Only the standard library is
used, because the supervisor reads the limits, too.

All groups from the process's own up to the mounted one count: the limit of a service may be set at
its slice, that of a container at its pod. Page cache does not count as used, because the kernel
can reclaim it.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

# cgroup v1 writes "no limit" as the largest page-aligned int64.
UNLIMITED_BYTES = 1 << 60


class Allowance(NamedTuple):
    """The limit of one control group, and the bytes that it leaves."""

    limit_bytes: int
    left_bytes: int


class Group(NamedTuple):
    """One control group and the folder with its files."""

    is_v2: bool
    folder: Path


class _Mount(NamedTuple):
    is_v2: bool
    # The control group whose files are in `folder`.
    top: PurePosixPath
    folder: Path


def allowances(root: Path = Path("/")) -> Iterator[Allowance]:
    """The limits of all groups that have one."""
    for group in groups(root):
        found = (_v2 if group.is_v2 else _v1)(group.folder)
        if found is not None and found.limit_bytes < UNLIMITED_BYTES:
            yield found


def groups(root: Path = Path("/"), controller: str = "memory") -> Iterator[Group]:
    """This process's groups for a controller, the innermost first; some may have no files.

    Args:
        root: the folder that contains /proc and the mounted file systems.
    """
    own = dict(_own_paths(root / "proc/self/cgroup", controller))
    for mount in _mounts(root, controller):
        path = own.get(mount.is_v2)
        if path is None:
            continue
        # In a container the path may be the host's, or lead outside the namespace. Then the mounted
        # group is the innermost one that is visible.
        inner = path.relative_to(mount.top) if path.is_relative_to(mount.top) else PurePosixPath()
        if ".." in inner.parts:
            inner = PurePosixPath()
        for above in (inner, *inner.parents):
            yield Group(mount.is_v2, mount.folder / above)


def oom_kills(root: Path = Path("/")) -> int:
    """How many processes the OOM killer has ended in the group; 0 if that is not counted."""
    for group in groups(root):
        file = group.folder / ("memory.events" if group.is_v2 else "memory.oom_control")
        try:
            counts = dict(line.split() for line in file.read_text().splitlines())
        except OSError:
            continue
        return int(counts.get("oom_kill", 0))
    return 0


def _own_paths(file: Path, controller: str) -> Iterator[tuple[bool, PurePosixPath]]:
    for line in _lines(file):
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            yield controllers == "", PurePosixPath(path)


def _mounts(root: Path, controller: str) -> Iterator[_Mount]:
    """Parse lines like "36 35 0:28 /top /folder rw - cgroup2 source options", see proc(5)."""
    seen = set()
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind == "cgroup2" or (
            kind == "cgroup" and controller in options.split(" ")[-1].split(",")
        ):
            top, folder = before.split(" ")[3:5]
            # A hierarchy may be mounted twice, as in a container that also sees the host's.
            if (kind, top) not in seen:
                seen.add((kind, top))
                yield _Mount(kind == "cgroup2", PurePosixPath(top), root / folder.lstrip("/"))


def _v2(group: Path) -> Allowance | None:
    # Beyond memory.high a group is slowed down so much that it is of no use.
    limits = [_number(group / name) for name in ("memory.max", "memory.high")]
    limit = min((n for n in limits if n is not None), default=None)
    used = _number(group / "memory.current")
    if limit is None or used is None:
        return None
    stat = _stat(group)
    cache = sum(stat.get(n, 0) for n in ("inactive_file", "active_file", "slab_reclaimable"))
    return _allowance(limit, used - cache)


def _v1(group: Path) -> Allowance | None:
    limit = _number(group / "memory.limit_in_bytes")
    used = _number(group / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    stat = _stat(group)
    cache = sum(stat.get(n, 0) for n in ("total_inactive_file", "total_active_file"))
    # The hierarchical limit includes groups above the visible ones.
    return _allowance(min(limit, stat.get("hierarchical_memory_limit", limit)), used - cache)


def _allowance(limit: int, held: int) -> Allowance:
    return Allowance(limit, max(limit - max(held, 0), 0))


def _stat(group: Path) -> dict[str, int]:
    pairs = (line.partition(" ") for line in _lines(group / "memory.stat"))
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def _number(path: Path) -> int | None:
    """The number in a cgroup file; None if the file is missing or says "max"."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        # The file is missing or not readable; then there is no limit that we can see.
        return []
