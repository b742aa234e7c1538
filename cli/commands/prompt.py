"""Reads what a user types: lines, several lines at once, with a history if that can be."""

import importlib.util
import sys
from collections.abc import Callable

from worker_runtime.settings import cache_folder

SIGN, MORE = ">>> ", "... "
QUOTES = '"""'
HISTORY = "chat-history"


class Prompt:
    def __init__(self) -> None:
        self._line = _line_reader()

    def read(self) -> str | None:
        """The next message; None at the end of the input."""
        try:
            text = self._line(SIGN)
            if text.lstrip().startswith(QUOTES):
                return self._until_quotes(text.lstrip().removeprefix(QUOTES))
            while text.endswith("\\"):
                text = text[:-1] + "\n" + self._line(MORE)
            return text
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            return ""
        except EOFError:
            sys.stdout.write("\n")
            return None

    def _until_quotes(self, text: str) -> str:
        while not text.rstrip().endswith(QUOTES):
            text += "\n" + self._line(MORE)
        return text.rstrip().removesuffix(QUOTES)


def _line_reader() -> Callable[[str], str]:
    """prompt_toolkit's where it is installed and this is a terminal; else Python's own."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not is_terminal or importlib.util.find_spec("prompt_toolkit") is None:
        return input
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory

    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / HISTORY
    # Only its owner may read what was asked.
    file.touch(mode=0o600, exist_ok=True)
    session: PromptSession[str] = PromptSession(history=FileHistory(str(file)))
    return session.prompt
