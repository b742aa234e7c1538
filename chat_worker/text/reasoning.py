"""Splits what a model thinks from what it answers, while both stream in."""

from dataclasses import dataclass

OPENING, CLOSING = "<think>", "</think>"


def thinks(template: str) -> bool:
    """Whether the model's template knows thinking."""
    return CLOSING in template


@dataclass(frozen=True, slots=True)
class Split:
    """A piece of a reply."""

    reasoning: str = ""
    text: str = ""


class ReasoningFilter:
    """Takes the thinking at a reply's beginning out of it, marks and the white space at its edges
    included. Any chunking gives the same.

    Args:
        begins_inside: the prompt has opened the thinking already.

    >>> reader = ReasoningFilter(begins_inside=False)
    >>> reader.push("<think>\\nWell"), reader.push(".\\n</think>\\n\\n42")
    (Split(reasoning='Well', text=''), Split(reasoning='.', text='42'))
    """

    def __init__(self, *, begins_inside: bool) -> None:
        self._held = ""
        self._step = self._thinking if begins_inside else self._before
        self._has_thought = False

    @property
    def is_thinking(self) -> bool:
        return self._step == self._thinking

    def push(self, text: str) -> Split:
        self._held += text
        return self._step()

    def flush(self) -> Split:
        """The reply has ended."""
        held, self._held = self._held, ""
        if self._step == self._thinking:
            return Split(reasoning=held.rstrip())
        return Split(text="" if self._step == self._after else held)

    def _before(self) -> Split:
        """At the beginning: white space and a mark, or an answer without thinking."""
        begun = self._held.lstrip()
        if begun.startswith(OPENING):
            self._held = begun[len(OPENING) :]
            self._step = self._thinking
            return self._thinking()
        if OPENING.startswith(begun):
            return Split()
        self._step = self._answering
        return self._answering()

    def _thinking(self) -> Split:
        if not self._has_thought:
            self._held = self._held.lstrip()
        thought, mark, rest = self._held.partition(CLOSING)
        if mark:
            self._held = rest
            self._step = self._after
            return Split(thought.rstrip(), self._after().text)
        # White space may be that before the mark, and the end may begin the mark.
        shown = thought[: len(thought) - _n_beginning_of_mark(thought)].rstrip()
        self._held = thought[len(shown) :]
        self._has_thought = self._has_thought or bool(shown)
        return Split(reasoning=shown)

    def _after(self) -> Split:
        self._held = self._held.lstrip()
        if not self._held:
            return Split()
        self._step = self._answering
        return self._answering()

    def _answering(self) -> Split:
        held, self._held = self._held, ""
        return Split(text=held)


def _n_beginning_of_mark(text: str) -> int:
    for length in range(min(len(CLOSING) - 1, len(text)), 0, -1):
        if CLOSING.startswith(text[-length:]):
            return length
    return 0
