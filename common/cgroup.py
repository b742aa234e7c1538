"""What the control groups above this process leave it of the machine's memory (Linux); standard
library only, as the supervisor asks, too.

Every group from the process's own up to the one that is mounted counts: a service's limit may be
its slice's, a container's its pod's. Page cache is not counted as used, as the kernel gives it up.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

# cgroup v1 writes "no limit" as the largest page-aligned int64.
UNLIMITED_BYTES = 1 << 60


class Allowance(NamedTuple):
    limit_bytes: int
    left_bytes: int


class Group(NamedTuple):
    is_v2: bool
    folder: Path


class _Mount(NamedTuple):
    is_v2: bool
    # The group that is seen at `folder`.
    top: PurePosixPath
    folder: Path


def allowances(root: Path = Path("/")) -> Iterator[Allowance]:
    """Of each group that has a limit."""
    for group in groups(root):
        found = (_v2 if group.is_v2 else _v1)(group.folder)
        if found is not None and found.limit_bytes < UNLIMITED_BYTES:
            yield found


def groups(root: Path = Path("/"), controller: str = "memory") -> Iterator[Group]:
    """This process's groups for a controller, inner ones first; some may have no files.

    Args:
        root: where /proc and what is mounted are looked for.
    """
    own = dict(_own_paths(root / "proc/self/cgroup", controller))
    for mount in _mounts(root, controller):
        path = own.get(mount.is_v2)
        if path is None:
            continue
        # In a container the path may be the host's, or lead out of what the namespace shows: then
        # the mounted group is the innermost that can be seen.
        inner = path.relative_to(mount.top) if path.is_relative_to(mount.top) else PurePosixPath()
        if ".." in inner.parts:
            inner = PurePosixPath()
        for above in (inner, *inner.parents):
            yield Group(mount.is_v2, mount.folder / above)


def _own_paths(file: Path, controller: str) -> Iterator[tuple[bool, PurePosixPath]]:
    for line in _lines(file):
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            yield controllers == "", PurePosixPath(path)


def _mounts(root: Path, controller: str) -> Iterator[_Mount]:
    """Lines are "36 35 0:28 /top /folder rw - cgroup2 source options", see proc(5)."""
    seen = set()
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind == "cgroup2" or (
            kind == "cgroup" and controller in options.split(" ")[-1].split(",")
        ):
            top, folder = before.split(" ")[3:5]
            # The same may be mounted twice, as in a container that is given the host's.
            if (kind, top) not in seen:
                seen.add((kind, top))
                yield _Mount(kind == "cgroup2", PurePosixPath(top), root / folder.lstrip("/"))


def _v2(group: Path) -> Allowance | None:
    # Beyond memory.high a group is slowed down until it is of no use.
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
    # The hierarchical limit also tells of groups above those that can be seen.
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
        # Not there, or not ours to read: then it limits nothing that we can see.
        return []


def oom_kills(root: Path = Path("/")) -> int:
    """How many there were so far; 0 where nobody counts."""
    for group in groups(root):
        file = group.folder / ("memory.events" if group.is_v2 else "memory.oom_control")
        try:
            counts = dict(line.split() for line in file.read_text().splitlines())
        except OSError:
            continue
        return int(counts.get("oom_kill", 0))
    return 0
