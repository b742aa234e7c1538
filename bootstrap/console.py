"""The console: is what is built, `gateway/console/built`, what `console/` builds to?

Only who changes the console needs node. Where it is not there, the question is left open.
"""

import filecmp
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bootstrap.progress import run, say
from bootstrap.settings import ROOT

SOURCES = ROOT / "console"
BUILT = ROOT / "gateway/console/built"
# As package.json asks for.
LEAST_NODE = (20, 19)


def console_is_current(env: Mapping[str, str]) -> bool:
    """Build the console into a folder of its own and compare; True too if that cannot be done."""
    npm = ready_npm(env)
    if npm is None:
        return True
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "built"
        if not _run(npm, env, "run", "build", "--", "--outDir", fresh):
            return False
        stale = differing(fresh, BUILT)
    if stale:
        say(f"  gateway/console/built differs in {', '.join(sorted(stale))}: run `npm run build`")
    return not stale


def ready_npm(env: Mapping[str, str]) -> str | None:
    """npm, with the packages of the console installed; None, and a line with the reason, if it is
    not there or cannot install them."""
    node, npm = (shutil.which(name, path=env.get("PATH")) for name in ("node", "npm"))
    if node is None or npm is None:
        say("  skipped: node and npm are not installed")
        return None
    if (version := node_version(node)) < LEAST_NODE:
        say(f"  skipped: node is {'.'.join(map(str, version))}, older than 20.19")
        return None
    wanted, installed = SOURCES / "package-lock.json", SOURCES / "node_modules/.package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
        return npm
    if not _run(npm, env, "ci", "--ignore-scripts", "--no-audit", "--no-fund"):
        say("  skipped: the packages of the console could not be installed")
        return None
    return npm


def _run(npm: str, env: Mapping[str, str], *arguments: str | Path) -> bool:
    return run([npm, "--prefix", SOURCES, *arguments], env) == 0


def node_version(node: str) -> tuple[int, ...]:
    """Major and minor version; empty if the program tells none."""
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


def differing(one: Path, other: Path) -> set[str]:
    """The files, relative to both folders, that are in one only or differ."""
    found = {path.relative_to(folder) for folder in (one, other) for path in _files(folder)}
    return {
        path.as_posix()
        for path in found
        if not ((one / path).is_file() and (other / path).is_file())
        or not filecmp.cmp(one / path, other / path, shallow=False)
    }


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
