"""What a model's chat template can show, found by rendering small conversations with it.

No name of a model or template tells these differences: one template refuses system messages,
another loses the results of tools, a third requires ids of nine characters. Each trait is therefore
tested, once for each model.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from chat_worker.pipe_messages import Conversation, Message, Tool, ToolCall
from chat_worker.text.template_variables import Arguments, NoTools, Shape, variables
from common.errors import InvalidRequest

Ids = Literal["any", "nine"]
# Renders variables; raises InvalidRequest if the template refuses them or fails.
Render = Callable[[dict[str, Any]], str]

# Time limit for all test renderings of a template; a usual template takes 20 ms.
LIMIT_S = 2.0
QUESTION, SYSTEM, ANSWER = "qxquestion", "qxsystem", "qxanswer"
FIRST, SECOND = ("qxfirst", "qxvalue", "qxresult"), ("qxsecond", "qxother", "qxreply")
TEXT_KEY, MORE_KEY, NUMBER_KEY, MORE, NUMBER = "qxkey", "qxmore", "qxnum", "qxthing", 8675309
IDS: dict[Ids, tuple[str, str]] = {
    "any": ("call_qx1", "call_qx2"),
    "nine": ("qxcallno1", "qxcallno2"),
}


@dataclass(frozen=True)
class Traits:
    """What a template can show.

    Args:
        shape: the form of the variables that it expects.
        takes_system: it shows a system message at the beginning.
        takes_late_system: it also shows a system message between the turns.
        takes_tools: it shows the offered tools.
        takes_calls: it shows calls with their results.
        takes_parallel_calls: it also shows several calls in one message.
        takes_words_with_calls: it also shows text in the same message as calls.
        ids: call ids may be any text, or must have nine letters and digits.
        alternates: it requires user and assistant messages to alternate.
        written: a reply with one call and a reply with two calls, as the template renders them,
            each with the text up to the first result. Empty if it shows no calls.
    """

    shape: Shape = field(default_factory=Shape)
    takes_system: bool = False
    takes_late_system: bool = False
    takes_tools: bool = False
    takes_calls: bool = False
    takes_parallel_calls: bool = False
    takes_words_with_calls: bool = False
    ids: Ids = "any"
    alternates: bool = False
    written: tuple[str, str] = ("", "")


def traits_of(source: str, render: Render) -> Traits:
    """Test a template.

    Args:
        source: of the template; traits whose words it does not contain are not tested.
    """
    probe = _Probe(render)
    shape = probe.shape()
    mentions_tools = any(word in source for word in ("tool", "function"))
    found = probe.calls(shape) if mentions_tools else None
    if found is None:
        found = Traits(shape)
    plain = found.shape
    return replace(
        found,
        takes_system=probe.shows([Message("system", SYSTEM), _question()], plain, SYSTEM),
        takes_late_system=probe.shows(
            [_question(), Message("assistant", ANSWER), Message("system", SYSTEM), _question()],
            plain,
            SYSTEM,
        ),
        takes_tools=mentions_tools and probe.shows_tools(plain),
        alternates=not probe.shows([_question(), Message("user", ANSWER)], plain, ANSWER, QUESTION),
    )


class _Probe:
    def __init__(self, render: Render) -> None:
        self._render = render
        # The limit is for all renderings, because a hostile template may be slow each time.
        self._until_s = time.monotonic() + LIMIT_S

    def shape(self) -> Shape:
        """The first form with which a question and an offered tool are shown, else a question."""
        no_tools: tuple[NoTools, ...] = ("none", "list")
        shapes = [
            Shape(no_tools=absent, describes_all=describes_all)
            for describes_all, absent in itertools.product((False, True), no_tools)
        ]
        talking = [shape for shape in shapes if self.shows([_question()], shape, QUESTION)]
        showing = [shape for shape in talking if self.shows_tools(shape)]
        return next(iter((*showing, *talking)), Shape())

    def shows_tools(self, shape: Shape) -> bool:
        return self.shows([_question()], shape, FIRST[0], tools=True)

    def calls(self, shape: Shape) -> Traits | None:
        """How the template shows calls with their results; None if it does not."""
        for traits in _ways_of_calling(shape):
            one = self._text(_calling(IDS[traits.ids], FIRST), traits.shape, tools=True)
            if not _holds(one, QUESTION, *FIRST):
                continue
            two = self._text(_calling(IDS[traits.ids], FIRST, SECOND), traits.shape, tools=True)
            spoken = _calling(IDS[traits.ids], FIRST, words=ANSWER)
            # Some templates show the text only of messages before the last user message.
            spoken += [Message("assistant", "Well."), _question()]
            return replace(
                traits,
                takes_calls=True,
                takes_parallel_calls=_holds(two, *FIRST, *SECOND),
                takes_words_with_calls=self.shows(spoken, traits.shape, ANSWER, *FIRST, tools=True),
                written=(self._reply(one, traits.shape), self._reply(two, traits.shape)),
            )
        return None

    def _reply(self, whole: str, shape: Shape) -> str:
        """The assistant's message in `whole`, up to the first result."""
        if not _holds(whole, FIRST[2]):
            return ""
        prompt = self._text([_question()], shape, tools=True)
        begin = next((i for i, c in enumerate(prompt) if whole[i : i + 1] != c), len(prompt))
        if begin < len(prompt):
            # The generation prompt opens the thinking; its tag begins like the mark of calls.
            begin = max(prompt.rfind("<", 0, begin), 0)
        return whole[begin : whole.index(FIRST[2])]

    def shows(
        self, messages: list[Message], shape: Shape, *texts: str, tools: bool = False
    ) -> bool:
        return _holds(self._text(messages, shape, tools=tools), *texts)

    def _text(self, messages: list[Message], shape: Shape, *, tools: bool) -> str:
        """The rendered text; empty if the template refuses, or if the time limit has passed."""
        if time.monotonic() > self._until_s:
            return ""
        conversation = Conversation(messages, tools=_tools() if tools else [])
        try:
            return self._render(variables(conversation, shape))
        except InvalidRequest:
            return ""


def _ways_of_calling(shape: Shape) -> Iterator[Traits]:
    arguments: tuple[Arguments, ...] = ("object", "text")
    ids: tuple[Ids, ...] = ("any", "nine")
    for kind, no_content, id_kind in itertools.product(arguments, ("", None), ids):
        yield Traits(shape=replace(shape, arguments=kind, no_content=no_content), ids=id_kind)


def _holds(text: str, *parts: str) -> bool:
    return bool(text) and all(part in text for part in parts)


def _question() -> Message:
    return Message("user", QUESTION)


def _calling(ids: tuple[str, ...], *calls: tuple[str, str, str], words: str = "") -> list[Message]:
    made = [
        ToolCall(id_, name, json.dumps(arguments_of_probe(value)))
        for id_, (name, value, _) in zip(ids, calls, strict=False)
    ]
    results = [
        Message("tool", result, name=name, tool_call_id=id_)
        for id_, (name, _, result) in zip(ids, calls, strict=False)
    ]
    return [_question(), Message("assistant", words, tool_calls=made), *results]


def arguments_of_probe(value: str) -> dict[str, str | int]:
    return {TEXT_KEY: value, MORE_KEY: MORE, NUMBER_KEY: NUMBER}


def _tools() -> list[Tool]:
    kinds = {TEXT_KEY: "string", MORE_KEY: "string", NUMBER_KEY: "integer"}
    properties = {key: {"type": kind} for key, kind in kinds.items()}
    parameters = json.dumps({"type": "object", "properties": properties})
    return [Tool(name, "Looks.", parameters) for name, _, _ in (FIRST, SECOND)]
