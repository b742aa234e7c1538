"""Whether the built console is current: which differences count, and what is skipped."""

import sys
from pathlib import Path

import pytest

from bootstrap.console import console_is_current, differing


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / "assets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_changed_missing_and_left_over_files_differ(tmp_path: Path) -> None:
    fresh = write(tmp_path / "fresh", same="a", changed="b", new="c")
    built = write(tmp_path / "built", same="a", changed="x", old="d")
    assert differing(fresh, built) == {"assets/changed", "assets/new", "assets/old"}
    assert differing(fresh, fresh) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for node is a shell script")
def test_a_node_that_is_too_old_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("node", "npm"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho v18.4.0\n")
        program.chmod(0o755)
    assert console_is_current({"PATH": str(tmp_path)})
    assert "skipped: node is 18.4, older than 20.19" in capsys.readouterr().err


def test_without_node_the_question_is_left_open_and_the_reason_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert console_is_current({"PATH": ""})
    assert "skipped: node and npm are not installed" in capsys.readouterr().err
