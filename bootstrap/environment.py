"""Makes .venv as the lock states: on the first start; later starts find it complete.

A stamp file in .venv records everything that its content depends on. While the stamp matches,
nothing is checked or installed, so a second start takes milliseconds.
"""

import hashlib
import json
import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from bootstrap import llama_build, torch_build, unused_files
from bootstrap.lock import CHOSEN_HERE, LEFT_OUT, LOCK, UNUSED, Lock, roots
from bootstrap.processor import features_digest
from bootstrap.progress import Step, say
from bootstrap.settings import ROOT, Settings, program
from bootstrap.uv import VENV, Uv, prepare, remove_own

STAMP = VENV / "y26hkx-stamp.json"
# Enough for the built-in models, GGUF files and other servers' models; without torch, which takes
# more than a gigabyte.
RUNTIME = frozenset({"base"})
DEVELOPMENT = frozenset({"all", "dev"})
# What Python's venv module brings up to 3.11, and only some packages need.
BROUGHT_ALONG = "setuptools"


@dataclass(frozen=True)
class Stamp:
    """What .venv was made from.

    Args:
        lock: digest of the lock file and of the names of our own packages.
        root: the project's folder, because .venv contains absolute paths.
        torch: which build was requested.
        extras: the extras and groups that are installed.
        processor: digest of the processor features with which llama.cpp was tested.
        llama: how llama.cpp was built, or must be; empty if unknown, or left to the set-up.
    """

    lock: str
    root: str
    torch: str
    extras: frozenset[str]
    processor: str = ""
    llama: str = ""

    @classmethod
    def wanted(cls, settings: Settings, extras: frozenset[str], lock: Path = LOCK) -> "Stamp":
        digest = hashlib.sha256(lock.read_bytes() + _own_packages()) if lock.is_file() else None
        locked = "" if digest is None else digest.hexdigest()
        llama = "" if settings.llama == "auto" else settings.llama
        return cls(locked, str(ROOT), settings.torch, extras, features_digest(), llama)

    @classmethod
    def read(cls, path: Path = STAMP) -> "Stamp | None":
        """The stamp in `path`; None if there is none or it cannot be read."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            made = found["lock"], found["root"], found["torch"], frozenset(found["extras"])
            return cls(*made, found.get("processor", ""), found.get("llama", ""))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path = STAMP) -> None:
        content = {**vars(self), "extras": sorted(self.extras)}
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")

    def covers(self, wanted: "Stamp") -> bool:
        """Whether an environment with this stamp meets `wanted`."""
        same = (self.lock, self.root, self.torch) == (wanted.lock, wanted.root, wanted.torch)
        same &= wanted.llama in ("", self.llama)
        return same and roots(self.extras) >= roots(wanted.extras)


def ensure(settings: Settings, extras: frozenset[str], *, test: bool = False) -> Path:
    """Make .venv as the lock states for `extras`; return its Python.

    Args:
        test: test llama.cpp even if nothing has changed.
    Raises:
        SetupError: a step failed; the message says what to do.
    """
    python = program(VENV, "python")
    wanted = Stamp.wanted(settings, extras)
    there = Stamp.read()
    # exists() follows links, so it also notices that the base Python is gone.
    if there is not None and there.covers(wanted) and python.exists():
        if test or there.processor != wanted.processor:
            _test(settings, Lock.read(), there, thorough=test)
        return python
    began = time.monotonic()
    say("Setting up: this happens once, and again when the locked versions change.")
    lock = Lock.read()
    uv = prepare(settings, lock)
    if there is not None and (there.lock, there.root) == (wanted.lock, wanted.root):
        # When only a part is requested, the other installed parts must stay.
        wanted = replace(wanted, extras=wanted.extras | there.extras)
    STAMP.unlink(missing_ok=True)
    llama = _install(uv, lock, settings, wanted.extras)
    _test(settings, lock, replace(wanted, llama=llama), thorough=True)
    if "dev" not in wanted.extras:
        remove_own(settings)
    say(f"Set up in {time.monotonic() - began:.0f} s.")
    return python


def _own_packages() -> bytes:
    """The packages that pyproject.toml names: an editable install knows those of its day alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return repr(project["tool"]["setuptools"]["packages"]["find"]["include"]).encode()


def _test(settings: Settings, lock: Lock, made: Stamp, *, thorough: bool) -> None:
    """Test llama.cpp on this processor and record the result in the stamp."""
    llama = made.llama
    if llama_build.NAME in roots(made.extras):
        llama = llama_build.test(
            lambda: prepare(settings, lock),
            lock,
            program(VENV, "python"),
            settings.variables,
            llama,
            thorough=thorough,
        )
    replace(made, processor=features_digest(), llama=llama).write()


def _install(uv: Uv, lock: Lock, settings: Settings, extras: frozenset[str]) -> str:
    """Install the packages. Returns how llama.cpp was built; empty if it is not among them."""
    named = roots(extras)
    ready = [p for p in lock.needed_by(named) if p.name not in CHOSEN_HERE | UNUSED]
    with Step(f"installing {len(ready)} packages", hint="downloading as needed") as step:
        text = "\n".join(p.text for p in ready)
        step.call(uv.install("--require-hashes", "-r", "-"), uv.env, text)
        # An environment from an earlier lock may contain them.
        unwanted = {*LEFT_OUT, *UNUSED, BROUGHT_ALONG} - {package.name for package in ready}
        step.call(uv.uninstall("--quiet", *sorted(unwanted)), uv.env)
    if "torch" in named:
        torch_build.install(uv, lock, settings)
    llama = llama_build.install(uv, lock, settings.llama) if llama_build.NAME in named else ""
    with Step("installing y26hkx itself") as step:
        step.call(uv.install("--build-constraints", LOCK, "--editable", ROOT), uv.env)
    unused_files.remove(VENV)
    return llama
