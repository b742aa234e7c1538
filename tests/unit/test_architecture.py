"""ARCHITECTURE.md describes what the code does: what it lists is compared with the sources.

So are the paths that the other documents name.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker_runtime.lifecycle.snapshot import ModelState
from worker_runtime.lifecycle.state import ALLOWED

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
PACKAGES = (
    *("protos", "common", "gateway", "worker_runtime", "chat_worker", "embed_worker"),
    *("simple", "downloads", "cli", "bootstrap"),
)
LOCKS = re.compile(
    r"\b(threading|asyncio|multiprocessing|filelock)\."
    r"(Lock|RLock|Condition|Semaphore|BoundedSemaphore|FileLock)\("
)
DOCUMENTS = sorted(
    [
        *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")),
        *ROOT.glob("README*.md"),
        ROOT / "benchmarks/README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
# Folders and files of the repository; models/ is the user's.
OURS = re.compile(
    rf"(?:{'|'.join((*PACKAGES, 'tests', 'docs', 'deploy', 'benchmarks', '.github'))})/[\w./-]*"
    r"|(?:[\w.-]+/)*[\w-]+\.(?:py|md|proto|yml|lock)"
)
LONGEST_LINE = 110
ENVIRONMENT = re.compile(r"\bos\.(environ|getenv|putenv)\b")
# As code has them: first in a call, a tuple or a table, or as a constant of their own.
STATUS = re.compile(r"[({]\s*(?:4\d\d|50[0-4]|529)\s*[,:)]|=\s*4(?:00|99)\b")


def test_the_drawing_of_a_models_states_is_the_table_of_allowed_changes() -> None:
    lines = ["stateDiagram-v2", "    [*] --> unloaded"]
    for before in ModelState:
        after = [state for state in ModelState if state in ALLOWED[before]]
        lines += [f"    {before.value} --> {state.value}" for state in after]
    (drawn,) = re.findall(r"```mermaid\n(.*?)\n```", TEXT, re.DOTALL)
    assert drawn.splitlines() == lines


def test_every_state_can_be_reached_and_left() -> None:
    reached = frozenset().union(*ALLOWED.values())
    assert set(ALLOWED) == set(ModelState) == reached
    assert all(ALLOWED.values())


def test_the_table_of_locks_names_every_module_that_has_one() -> None:
    section = TEXT[
        TEXT.index("**One owner per thing.**") : TEXT.index("The environment is read by")
    ]
    named = set(re.findall(r"^\| `([\w/]+\.py)` \|", section, re.MULTILINE))
    assert named == set(_modules_with(LOCKS))


def test_the_environment_is_read_where_the_text_says() -> None:
    start = TEXT.index("The environment is read by")
    section = TEXT[start : TEXT.index("\n\n", start)]
    named = {name for name in re.findall(r"`([\w/]+\.py)`", section) if "/" in name}
    readers = set(_modules_with(ENVIRONMENT))
    assert named == readers


def test_http_statuses_are_known_where_the_text_says() -> None:
    start = TEXT.index("**Errors are data.**")
    section = TEXT[start : TEXT.index("\n\n", start)]
    named = set(re.findall(r"`((?:gateway|chat_worker)/[\w/]+\.py)`", section))
    found = set(_modules_with(STATUS, "gateway", "chat_worker", "embed_worker", "worker_runtime"))
    assert found == named


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    named = {name for name in re.findall(r"`([^`\n]+)`", text) if OURS.fullmatch(name)}
    places = (ROOT, document.parent)
    gone = {name for name in named if not any((place / name).exists() for place in places)}
    # A file that several services have, and a folder that a benchmark makes.
    assert gone - {"settings.py", "benchmarks/models/"} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_document_links_exists(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text("utf-8"))
    gone = {link for link in links if "://" not in link and not (document.parent / link).exists()}
    assert gone == set()


def test_the_folders_that_the_tour_describes_are_all_that_hold_modules() -> None:
    described = set(re.findall(r"^\| `([\w/]+)/` \|", TEXT, re.MULTILINE))
    packages = {path.parent.relative_to(ROOT) for path in _modules()}
    of_ours = {path.as_posix() for path in packages if len(path.parts) <= 2}
    # The generated modules, below the contract.
    assert of_ours - described - {"protos/y26hkx"} == set()


def test_no_line_of_the_tour_is_long() -> None:
    assert [line for line in TEXT.splitlines() if len(line) > LONGEST_LINE] == []


def _modules_with(pattern: re.Pattern[str], *packages: str) -> Iterator[str]:
    for path in _modules(*packages):
        if pattern.search(path.read_text("utf-8")):
            yield path.relative_to(ROOT).as_posix()


def _modules(*packages: str) -> Iterator[Path]:
    for package in packages or PACKAGES:
        yield from (ROOT / package).rglob("*.py")
