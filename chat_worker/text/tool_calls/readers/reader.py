"""What every reader of calls does."""

from dataclasses import dataclass
from typing import Protocol

from chat_worker.text.tool_calls.calls import Call, Tools


@dataclass(frozen=True)
class Found:
    """Calls, and where they end in the text that was read."""

    calls: list[Call]
    end: int


class Reader(Protocol):
    def __call__(self, text: str, tools: Tools, limit: int | None) -> Found | None:
        """The calls at the beginning of `text`, all of them whole and of offered tools.

        Args:
            limit: where the mark stands that ends the calls, at its earliest: up to there what is
                badly written is mended; None: there is no such mark, and nothing is mended.
        Returns:
            None if there is no call, or not yet a whole one.
        """


def skip_space(text: str, at: int, more: str = "") -> int:
    """The next place at or behind `at` with neither white space nor one of `more`."""
    while at < len(text) and (text[at].isspace() or text[at] in more):
        at += 1
    return at
