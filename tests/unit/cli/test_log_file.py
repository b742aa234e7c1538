"""The file that keeps what the stack prints."""

from pathlib import Path

import pytest

from cli import log_file
from cli.log_file import KeptLines


class Sink:
    def __init__(self, *, takes: int | None = None) -> None:
        self.takes = takes

    def write(self, data: memoryview) -> int | None:
        if self.takes == 0:
            raise OSError("the terminal is gone")
        return len(data) if self.takes is None else min(self.takes, len(data))


def test_what_was_written_is_kept_also_when_the_terminal_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "log"
    lines = KeptLines(Sink(takes=4), file)
    assert lines.write(memoryview(b"a line\n")) == 4
    gone = KeptLines(Sink(takes=0), tmp_path / "other")
    with pytest.raises(OSError, match="gone"):
        gone.write(memoryview(b"last\n"))
    assert file.read_bytes() == b"a li"
    assert (tmp_path / "other").read_bytes() == b"last\n"


def test_a_key_is_never_kept_and_a_folder_that_cannot_be_written_is_no_failure(
    tmp_path: Path,
) -> None:
    file = tmp_path / "log"
    lines = KeptLines(Sink(), file, "sk-secret")
    for line in (b"API key sk-secret\n", b"ready\n"):
        lines.write(memoryview(line))
    assert file.read_bytes() == b"ready\n"
    assert KeptLines(Sink(), file / "below").write(memoryview(b"x")) == 1


def test_a_log_that_becomes_large_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "MOST_BYTES", 10)
    file = tmp_path / "serve.log"
    lines = KeptLines(Sink(), file)
    for _ in range(5):
        lines.write(memoryview(b"12345678\n"))
    assert file.stat().st_size <= 20
    assert (tmp_path / "serve.old.log").stat().st_size <= 20
