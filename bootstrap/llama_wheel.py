"""`run.py wheel --llama`: a wheel of llama.cpp for machines without a compiler.

It is the portable build: it has code for all kinds of processors, of which the best is taken when
it is loaded. It fits every Python on a system like this one.
"""

import base64
import csv
import fnmatch
import hashlib
import io
import tempfile
import zipfile
from pathlib import Path

from bootstrap.compilers import wrong_amx
from bootstrap.environment import ensure
from bootstrap.llama_build import AMX_VARIANT, NAME, build_options
from bootstrap.lock import Lock
from bootstrap.progress import Step
from bootstrap.settings import Settings, SetupError

# What the package installs for programs in C: its libraries once more, and their headers.
FOR_PROGRAMS = ("lib/*", "include/*")


def build(settings: Settings, target: Path) -> Path:
    """Write the wheel into the folder `target` and return its path.

    Raises:
        SetupError: a step failed; the message says what to do.
    """
    python = ensure(settings, frozenset({"build"}))
    options, changed = build_options("portable", settings.variables)
    requirement = f"{NAME}=={Lock.read().version(NAME)}"
    with tempfile.TemporaryDirectory() as place:
        with Step(f"compiling a portable {requirement}") as step:
            command: list[str | Path] = [python, "-m", "pip", "wheel", "--no-deps", "--quiet"]
            command += ["--no-cache-dir", "--no-binary", NAME, "--wheel-dir", place]
            command += [*options, requirement]
            step.call(command, {**settings.variables, **changed})
        (made,) = Path(place).glob("*.whl")
        target.mkdir(parents=True, exist_ok=True)
        left_out = [*FOR_PROGRAMS]
        if wrong_amx(settings.variables):
            left_out.append(f"llama_cpp/lib/{AMX_VARIANT}")
        return copy_without(made, target, left_out)


def copy_without(wheel: Path, target: Path, left_out: list[str]) -> Path:
    """Copy a wheel into the folder `target` without the files of these patterns.

    Raises:
        SetupError: it is not a wheel as the packaging specifications have it.
    """
    copy = target / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as kept:
        record = next((name for name in whole.namelist() if name.endswith("/RECORD")), None)
        if record is None:
            raise SetupError(f"{wheel.name} has no RECORD")
        names = [
            name
            for name in whole.namelist()
            if name != record and not any(fnmatch.fnmatch(name, pattern) for pattern in left_out)
        ]
        rows = io.StringIO()
        lines = csv.writer(rows, lineterminator="\n")
        for name in names:
            content = whole.read(name)
            kept.writestr(whole.getinfo(name), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines.writerow((name, f"sha256={digest.decode()}", len(content)))
        lines.writerow((record, "", ""))
        kept.writestr(record, rows.getvalue())
    return copy
