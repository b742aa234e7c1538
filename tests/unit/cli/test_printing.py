"""Colors are for people at a terminal alone, and no column moves for them."""

import io
import sys

import pytest

from cli.commands.printing import colored, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, out: io.StringIO) -> list[str]:
    monkeypatch.setattr(sys, "stdout", out)
    table(["a", "b"], [[colored("yes", "green"), "1"], ["perhaps", "2"]])
    return out.getvalue().splitlines()


def test_a_terminal_gets_colors_and_columns_stay_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    head, first, second = printed(monkeypatch, Terminal())
    assert head == "\033[2ma        b\033[0m"
    assert first == "\033[32myes\033[0m      1"
    assert second == "perhaps  2"


def test_a_pipe_and_who_says_no_color_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ["a        b", "yes      1", "perhaps  2"]
    assert printed(monkeypatch, io.StringIO()) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed(monkeypatch, Terminal()) == plain
