"""docs/library-internals.md is true: its paths exist, its versions are locked and bounded."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from bootstrap.lock import Lock

ROOT = Path(__file__).resolve().parents[3]


class Row(NamedTuple):
    library: str
    tried_with: str
    why: str
    where: str
    guards: str


def rows() -> list[Row]:
    lines = (ROOT / "docs/library-internals.md").read_text(encoding="utf-8").splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [Row(*map(str.strip, cells)) for cells in table[2:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.library)
def test_a_library_is_locked_at_the_version_that_was_tried_and_bounded(row: Row) -> None:
    lock = Lock.read()
    locked = lock.torch if row.library == "torch" else lock.version(row.library)
    assert locked == row.tried_with, "run the tests that guard it, then say so here"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [w for group in (project["dependencies"], *extras) for w in group]
    ours = [w for w in wanted if re.match(rf"{row.library}[=<>]", w)]
    assert ours
    assert all("<" in requirement or "==" in requirement for requirement in ours), ours


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.library)
def test_its_modules_and_tests_are_there_and_name_the_same_version(row: Row) -> None:
    for path in re.findall(r"`([^`]+)`", row.where + row.guards):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert "Tried with" not in text or row.tried_with in text, path
