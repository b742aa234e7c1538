""".venv as the lock says it: made on the first start, left alone on every later one.

A stamp in .venv holds everything its content follows from. When it still holds, nothing is
asked or installed: a second start costs milliseconds.
"""

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bootstrap import llama_build, torch_build
from bootstrap.lock import CHOSEN_HERE, LEFT_OUT, LOCK, Lock, roots
from bootstrap.processor import features_digest
from bootstrap.progress import Step, say
from bootstrap.settings import ROOT, Settings, program
from bootstrap.uv import VENV, Uv, prepare

STAMP = VENV / "y26hkx-stamp.json"
RUNTIME = frozenset({"all"})
DEVELOPMENT = frozenset({"all", "dev"})


@dataclass(frozen=True)
class Stamp:
    """What .venv was made from.

    Args:
        lock: digest of the lock file.
        root: where the project lies; .venv holds absolute paths.
        torch: the choice of its build, as asked for.
        extras: the extras and groups that are installed.
        processor: digest of the features that llama.cpp was tested with.
        llama: how llama.cpp was made; empty: nobody knows.
    """

    lock: str
    root: str
    torch: str
    extras: frozenset[str]
    processor: str = ""
    llama: str = ""

    @classmethod
    def wanted(cls, settings: Settings, extras: frozenset[str], lock: Path = LOCK) -> "Stamp":
        digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else ""
        return cls(digest, str(ROOT), settings.torch, extras, features_digest())

    @classmethod
    def read(cls, path: Path = STAMP) -> "Stamp | None":
        """The stamp in `path`; None if there is none that can be read."""
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
        """Whether an environment made as this says serves for `wanted`."""
        same = (self.lock, self.root, self.torch) == (wanted.lock, wanted.root, wanted.torch)
        return same and self.extras >= wanted.extras


def ensure(settings: Settings, extras: frozenset[str], *, test: bool = False) -> Path:
    """Bring .venv to what the lock says for `extras`; return its Python.

    Args:
        test: test llama.cpp also where nothing changed.
    Raises:
        SetupError: a step failed; the message says what to do.
    """
    python = program(VENV, "python")
    wanted = Stamp.wanted(settings, extras)
    there = Stamp.read()
    # Following its links, exists() also sees a base Python that is gone.
    if there is not None and there.covers(wanted) and python.exists():
        if test or there.processor != wanted.processor:
            _test(settings, Lock.read(), there, thorough=test)
        return python
    began = time.monotonic()
    say("Setting up: this happens once, and again when the locked versions change.")
    lock = Lock.read()
    uv = prepare(settings, lock)
    if there is not None and (there.lock, there.root) == (wanted.lock, wanted.root):
        # Going on with a part that was left out must not drop the rest.
        wanted = replace(wanted, extras=wanted.extras | there.extras)
    STAMP.unlink(missing_ok=True)
    llama = _install(uv, lock, settings, wanted.extras)
    _test(settings, lock, replace(wanted, llama=llama), thorough=True)
    say(f"Set up in {time.monotonic() - began:.0f} s.")
    return python


def _test(settings: Settings, lock: Lock, made: Stamp, *, thorough: bool) -> None:
    """Test what was made on this processor, and note it."""
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
    """Returns how llama.cpp was made; empty: it is not among them."""
    named = roots(extras)
    ready = [p for p in lock.needed_by(named) if p.name not in CHOSEN_HERE]
    with Step(f"installing {len(ready)} packages", hint="downloading as needed") as step:
        text = "\n".join(p.text for p in ready)
        step.call(uv.install("--require-hashes", "-r", "-"), uv.env, text)
        # An environment that an earlier lock made may have it.
        step.call(uv.uninstall("--quiet", *LEFT_OUT), uv.env)
    if "torch" in named:
        torch_build.install(uv, lock, settings)
    llama = llama_build.install(uv, lock) if llama_build.NAME in named else ""
    with Step("installing y26hkx itself") as step:
        step.call(uv.install("--build-constraints", LOCK, "--editable", ROOT), uv.env)
    return llama
