"""Whether the built console is current: which differences count, and what is skipped."""

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


def test_without_node_the_question_is_left_open_and_the_reason_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert console_is_current({"PATH": ""})
    assert "skipped: node and npm are not installed" in capsys.readouterr().err
