"""Separates a model's thinking from its answer while both arrive."""

import re
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class ThinkingMarks:
    """How one family of models marks its thinking.

    Args:
        opening, closing: the marks around the thinking.
        frames: marks around the answer, which are not a part of it.
        anywhere: thinking may also begin within the answer; if False, only before it.
    """

    opening: str
    closing: str
    frames: tuple[str, ...] = ()
    anywhere: bool = False

    @cached_property
    def within_answer(self) -> re.Pattern[str] | None:
        """Finds marks that end a part of the answer; None if there are none."""
        marks = (*self.frames, *((self.opening,) if self.anywhere else ()))
        return re.compile("|".join(map(re.escape, marks))) if marks else None

    @property
    def all(self) -> tuple[str, ...]:
        return (self.opening, self.closing, *self.frames)


THINK = ThinkingMarks("<think>", "</think>")
# The model's marks are the first whose sign, such as the closing mark, occurs in its template.
_BY_SIGN: tuple[tuple[str, ThinkingMarks], ...] = (
    (
        # gpt-oss: each message names its channel.
        "<|channel|>analysis",
        ThinkingMarks(
            "<|channel|>analysis<|message|>",
            "<|end|>",
            frames=(
                "<|start|>assistant",
                "<|channel|>final<|message|>",
                "<|channel|>commentary<|message|>",
                "<|end|>",
            ),
            anywhere=True,
        ),
    ),
    # Gemma 4
    ("<|channel>thought", ThinkingMarks("<|channel>thought\n", "<channel|>", anywhere=True)),
    # Kimi K3
    (
        "<|close|>think<|sep|>",
        ThinkingMarks(
            "<|open|>think<|sep|>",
            "<|close|>think<|sep|>",
            frames=("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
            anywhere=True,
        ),
    ),
    # Command-R 7B and Command-A
    (
        "<|END_THINKING|>",
        ThinkingMarks(
            "<|START_THINKING|>",
            "<|END_THINKING|>",
            frames=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
        ),
    ),
    # Mistral's reasoning models, Seed-OSS, MiniMax M3, Hunyuan
    ("[/THINK]", ThinkingMarks("[THINK]", "[/THINK]")),
    ("</seed:think>", ThinkingMarks("<seed:think>", "</seed:think>")),
    ("</mm:think>", ThinkingMarks("<mm:think>", "</mm:think>")),
    ("</think:opensource>", ThinkingMarks("<think:opensource>", "</think:opensource>")),
    # Nearly all others
    (THINK.closing, THINK),
    ("</thinking>", ThinkingMarks("<thinking>", "</thinking>")),
)


def thinking_marks(template: str) -> ThinkingMarks | None:
    """The marks that occur in the model's template; None if it does not support thinking."""
    return next((marks for sign, marks in _BY_SIGN if sign in template), None)


@dataclass(frozen=True, slots=True)
class Split:
    """A part of a reply."""

    reasoning: str = ""
    text: str = ""


class ReasoningFilter:
    """Takes the thinking out of a reply, without its marks and the white space around it.

    The result does not depend on the chunking.

    Args:
        begins_inside: the prompt has already opened the thinking.

    >>> reader = ReasoningFilter(THINK, begins_inside=False)
    >>> reader.push("<think>\\nWell"), reader.push(".\\n</think>\\n\\n42")
    (Split(reasoning='Well', text=''), Split(reasoning='.', text='42'))
    """

    def __init__(self, marks: ThinkingMarks, *, begins_inside: bool) -> None:
        self._marks = marks
        self._held = ""
        self._step = self._thinking if begins_inside else self._before
        self._has_thought = False
        # White space after the thinking is not a part of the answer.
        self._strips = False

    @property
    def is_thinking(self) -> bool:
        return self._step == self._thinking

    def push(self, text: str) -> Split:
        self._held += text
        return self._advance()

    def flush(self) -> Split:
        """The held text, as the reply has ended."""
        held, self._held = self._held, ""
        if self._step == self._thinking:
            return Split(reasoning=held.rstrip())
        return Split(text=held.lstrip() if self._strips else held)

    def _advance(self) -> Split:
        reasoning, text = [], []
        goes_on = True
        while goes_on and self._held:
            split, goes_on = self._step()
            reasoning.append(split.reasoning)
            text.append(split.text)
        return Split("".join(reasoning), "".join(text))

    # Each step returns what it found, and whether another step may find more.

    def _before(self) -> tuple[Split, bool]:
        """At the beginning: white space and a mark, or an answer without thinking."""
        begun = self._held.lstrip()
        if begun.startswith(self._marks.opening):
            self._open(begun)
            return Split(), True
        if self._marks.opening.startswith(begun):
            return Split(), False
        if self._strips:
            self._held = begun
            self._strips = False
        self._step = self._answering
        return Split(), True

    def _thinking(self) -> tuple[Split, bool]:
        if not self._has_thought:
            self._held = self._held.lstrip()
        closing = self._marks.closing
        thought, mark, rest = self._held.partition(closing)
        if mark:
            self._held = rest
            # More thinking may follow at once.
            self._step, self._strips = self._before, True
            return Split(reasoning=thought.rstrip()), True
        # The white space may precede the closing mark, and the end may begin that mark.
        shown = thought[: len(thought) - _n_beginning(thought, (closing,))].rstrip()
        self._held = thought[len(shown) :]
        self._has_thought = self._has_thought or bool(shown)
        return Split(reasoning=shown), False

    def _answering(self) -> tuple[Split, bool]:
        pattern = self._marks.within_answer
        held = self._held.lstrip() if self._strips else self._held
        if pattern is None:
            self._held, self._strips = "", self._strips and not held
            return Split(text=held), False
        mark = pattern.search(held)
        if mark is not None:
            text, self._held = held[: mark.start()], held[mark.end() :]
            self._strips = self._strips and not text
            if mark[0] == self._marks.opening:
                self._open(mark[0] + self._held)
            return Split(text=text), True
        n_kept = _n_beginning(held, self._marks.all)
        text, self._held = held[: len(held) - n_kept], held[len(held) - n_kept :]
        self._strips = self._strips and not text
        return Split(text=text), False

    def _open(self, begun: str) -> None:
        self._held = begun[len(self._marks.opening) :]
        self._has_thought = False
        self._step = self._thinking


def _n_beginning(text: str, marks: tuple[str, ...]) -> int:
    """The length of the longest suffix of `text` that begins a mark."""
    longest = max(map(len, marks)) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in marks):
            return length
    return 0
