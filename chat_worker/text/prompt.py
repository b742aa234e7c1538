"""A conversation to token ids, so that nothing a user types becomes a control token.

The template sees the real texts, so that its own logic works. Only where a text contains the
spelling of a control token, a marker is put inside that spelling; after rendering, the spelling
is encoded as plain text. Ordinary text is therefore encoded exactly as rendered.
"""

import re
from collections.abc import Callable

import msgspec

from chat_worker.backend import Tokenizer
from chat_worker.pipe_messages import Conversation, Message, Tool, ToolCall
from chat_worker.text.template import ChatTemplate
from common.errors import InvalidRequest

# Unicode non-characters: valid in UTF-8, meant for internal use, without meaning in any text.
MARKERS = tuple(chr(0xFDD0 + i) for i in range(32))


class PromptEncoder:
    """Renders and encodes for one model."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        spellings = sorted(filter(None, tokenizer.control_strings), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, spellings))) if spellings else None

    def render(self, conversation: Conversation) -> str:
        """The prompt as text, as the model's template writes it."""
        if self._template is None:
            raise InvalidRequest(
                "this model has no chat template, so it cannot take messages",
                param="messages",
                suggestions=("send a plain prompt to /v1/completions",),
            )
        return self._template.render(conversation)

    def encode(self, conversation: Conversation) -> list[int]:
        """The prompt as token ids, beginning with BOS if the model wants it."""
        marker = _unused_marker(conversation)
        rendered = self.render(self._marked(conversation, marker))
        tokens: list[int] = []
        for text, is_plain in self._segments(rendered, marker):
            tokens += self._tokenizer.encode(text, parse_control=not is_plain)
        return self._begun(tokens)

    def encode_text(self, text: str, *, parse_control: bool = False) -> list[int]:
        """A raw prompt as token ids; spellings of control tokens are plain text unless parsed."""
        return self._begun(self._tokenizer.encode(text, parse_control=parse_control))

    def _begun(self, tokens: list[int]) -> list[int]:
        prefix = self._tokenizer.prefix
        return tokens if tokens[: len(prefix)] == prefix else prefix + tokens

    def _marked(self, conversation: Conversation, marker: str) -> Conversation:
        control = self._control
        if control is None or not any(map(control.search, _texts(conversation))):
            return conversation

        def marked(text: str) -> str:
            return control.sub(lambda m: m[0][:1] + marker + m[0][1:], text)

        return msgspec.structs.replace(
            conversation,
            messages=[self._marked_message(message, marked) for message in conversation.messages],
            tools=[
                Tool(marked(tool.name), marked(tool.description), marked(tool.parameters))
                for tool in conversation.tools
            ],
        )

    def _marked_message(self, message: Message, marked: Callable[[str], str]) -> Message:
        return Message(
            role=message.role,
            content=marked(message.content),
            name=marked(message.name),
            tool_calls=[
                ToolCall(call.id, marked(call.name), marked(call.arguments))
                for call in message.tool_calls
            ],
            tool_call_id=marked(message.tool_call_id),
            reasoning=marked(message.reasoning),
        )

    def _segments(self, rendered: str, marker: str) -> list[tuple[str, bool]]:
        """(text, is plain) pieces: plain are the spellings that the user typed.

        A marker that a template has torn from its spelling still separates what it separated.
        """
        if marker not in rendered:
            return [(rendered, False)]
        segments: list[tuple[str, bool]] = []
        before, *parts = rendered.split(marker)
        for part in parts:
            begun, after = before[-1:], part
            match = self._control.match(begun + part) if self._control else None
            if match is not None:
                segments.append((before[:-1], False))
                segments.append((match[0], True))
                after = part[len(match[0]) - 1 :]
            else:
                segments.append((before, False))
            before = after
        segments.append((before, False))
        return [(text, is_plain) for text, is_plain in segments if text]


def _texts(conversation: Conversation) -> list[str]:
    texts: list[str] = []
    for message in conversation.messages:
        texts += [message.content, message.name, message.tool_call_id, message.reasoning]
        for call in message.tool_calls:
            texts += [call.name, call.arguments]
    for tool in conversation.tools:
        texts += [tool.name, tool.description, tool.parameters]
    return texts


def _unused_marker(conversation: Conversation) -> str:
    used = set().union(*_texts(conversation))
    for marker in MARKERS:
        if marker not in used:
            return marker
    raise InvalidRequest("the messages use all of Unicode's non-characters", param="messages")
