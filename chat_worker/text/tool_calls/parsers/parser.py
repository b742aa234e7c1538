"""What every reader of calls does."""

from dataclasses import dataclass
from typing import Protocol

from chat_worker.text.tool_calls.calls import Call, Tools


@dataclass(frozen=True)
class Found:
    """Calls, and where they end in the text that was read."""

    calls: list[Call]
    end: int


@dataclass(frozen=True)
class End:
    """The reply has ended, so what is badly written may be mended.

    Args:
        limit: where the mark stands that ends the calls; None: there is none.
    """

    limit: int | None = None


class Reader(Protocol):
    def __call__(self, text: str, tools: Tools, end: End | None) -> Found | None:
        """The calls at the beginning of `text`, all of them whole and of offered tools.

        Args:
            end: None while more text may come: then what is found must not depend on it.
        Returns:
            None if there is no call, or not yet a whole one.
        """


def skip_space(text: str, at: int, more: str = "") -> int:
    """The next place at or behind `at` with neither white space nor one of `more`."""
    while at < len(text) and (text[at].isspace() or text[at] in more):
        at += 1
    return at
