"""`run.py lock`: resolves all extras and groups again, for all systems and Python versions."""

import tempfile
from pathlib import Path

from bootstrap.lock import (
    CUDA_ONLY,
    GROUPS,
    LEFT_OUT,
    LOCK,
    PYPROJECT,
    Lock,
    digest_of_inputs,
    packages_in,
)
from bootstrap.progress import Step
from bootstrap.settings import Settings, SetupError
from bootstrap.uv import prepare

# A wheel folder or an extra index may contain files for one system only. With their hashes alone,
# the lock would refuse the files for other systems, so only the full index is used.
LOCAL_SOURCES = frozenset({"UV_FIND_LINKS", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY"})
HEADER = """\
# Every package with its version and hashes; written by `python3 run.py lock`, not by hand.
# inputs: {inputs}
# torch=={torch}
# ^ torch's build, and the CUDA libraries that some need, are chosen at install.

"""


def relock(settings: Settings, *, upgrade: bool) -> None:
    """Write requirements.lock; without `upgrade`, versions that still fit are kept.

    Raises:
        SetupError: the requirements contradict each other, or no index can be reached.
    """
    old = Lock.read()
    uv = prepare(settings, old)
    env = {name: value for name, value in uv.env.items() if name not in LOCAL_SOURCES}
    with tempfile.TemporaryDirectory() as folder, Step("resolving") as step:
        resolved = Path(folder) / LOCK.name
        kept = Path(folder) / "kept.txt"
        # uv keeps the versions in its output file; torch is not in it, so a constraint keeps it.
        resolved.write_text("" if upgrade else old.text, encoding="utf-8")
        kept.write_text("" if upgrade else f"torch=={old.torch}\n", encoding="utf-8")
        left_out = Path(folder) / "left_out.txt"
        # An override for a Python version that does not exist removes a package.
        never = [f"{name} ; python_version < '0'\n" for name in LEFT_OUT]
        left_out.write_text("".join(never), encoding="utf-8")
        options: list[str | Path] = ["--universal", "--python-version", "3.11", "--all-extras"]
        for group in GROUPS:
            options += ["--group", group]
        options += ["--constraints", kept, "--overrides", left_out]
        options += ["--generate-hashes", "--no-header", "--quiet"]
        step.call(uv.compile(PYPROJECT.name, *options, "--output-file", resolved), env)
        text = resolved.read_text(encoding="utf-8")
    LOCK.write_text(with_header(text, digest_of_inputs()), encoding="utf-8")


def with_header(resolved: str, inputs: str) -> str:
    """uv's output without torch and CUDA packages, which one line of the header replaces."""
    packages = packages_in(resolved)
    torch = [p.version for p in packages if p.name == "torch"]
    if len(torch) != 1:
        raise SetupError(f"torch must resolve to one version, not to {torch}")
    kept = [p.text for p in packages if p.name != "torch" and not CUDA_ONLY.match(p.name)]
    return HEADER.format(inputs=inputs, torch=torch[0]) + "\n".join(kept) + "\n"
