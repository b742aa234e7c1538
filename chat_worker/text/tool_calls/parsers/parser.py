"""The interface of all parsers of tool calls."""

from dataclasses import dataclass
from typing import Protocol

from chat_worker.text.tool_calls.calls import Call, Tools


@dataclass(frozen=True)
class ParsedCalls:
    """Calls, and the position in the text at which they end."""

    calls: list[Call]
    end: int


@dataclass(frozen=True)
class ReplyEnd:
    """The reply has ended, so the parser may repair calls that are not valid.

    Args:
        limit: the position of the mark that ends the calls; None if there is no such mark.
    """

    limit: int | None = None


class Parser(Protocol):
    def __call__(self, text: str, tools: Tools, end: ReplyEnd | None) -> ParsedCalls | None:
        """Parse the calls at the beginning of `text`; all are complete and of offered tools.

        Args:
            end: None while more text may arrive; the result must not depend on that text.
        Returns:
            None if there is no call, or no complete one yet.
        """


def skip_space(text: str, at: int, more: str = "") -> int:
    """The first position from `at` on that is neither white space nor one of `more`."""
    while at < len(text) and (text[at].isspace() or text[at] in more):
        at += 1
    return at
