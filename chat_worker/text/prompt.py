"""A conversation to token ids, such that no text of a user becomes a control token.

The template receives the real texts, so that its own logic works. Only if a text contains the
spelling of a control token, a marker is inserted into that spelling; after rendering, the spelling
is encoded as plain text. Ordinary text is therefore encoded exactly as it was rendered. Texts in
the JSON of arguments and schemas are marked after that JSON was parsed, because JSON can escape
characters.
"""

import re
from collections.abc import Callable, Iterator

from chat_worker.backend import Tokenizer
from chat_worker.pipe_messages import Conversation
from chat_worker.text.template import ChatTemplate
from chat_worker.text.template_variables import Mark
from common.error_texts import ErrorText
from common.errors import InvalidRequest

# Unicode non-characters: valid in UTF-8, reserved for internal use, and without meaning in text.
MARKERS = tuple(chr(0xFDD0 + i) for i in range(32))
ESCAPED_MARKER = re.compile(r"\\u(fd[de][0-9a-f])", re.I)
# Rendered text is tokenized in pieces of about this many characters.
PIECE_CHARS = 64 * 1024
# Raises if the result is no longer needed; called before each part of the work.
Check = Callable[[], None]


def unchecked() -> None:
    """A `Check` that never raises."""


class PromptEncoder:
    """Renders and encodes conversations for one model."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = template
        spellings = sorted(filter(None, tokenizer.control_strings), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, spellings))) if spellings else None

    def render(
        self, conversation: Conversation, check: Check = unchecked, mark: Mark | None = None
    ) -> str:
        """The prompt as text, as the model's template renders it."""
        return self._template.render(conversation, check, mark)

    def encode(self, conversation: Conversation, check: Check = unchecked) -> list[int]:
        """The prompt as token ids, beginning with BOS if the model expects it."""
        marker = _unused_marker(conversation)
        rendered = self.render(conversation, check, self._mark(marker))
        tokens: list[int] = []
        for text, is_plain in self._segments(rendered, marker):
            for piece in [text] if is_plain else self._pieces(text):
                check()
                tokens += self._tokenizer.encode(piece, parse_control=not is_plain)
        return self._begun(tokens)

    def encode_text(self, text: str, *, parse_control: bool = False) -> list[int]:
        """A raw prompt as token ids; `parse_control` turns spellings into control tokens."""
        return self._begun(self._tokenizer.encode(text, parse_control=parse_control))

    def _pieces(self, text: str) -> Iterator[str]:
        """The text in pieces that begin with control tokens: no token extends across these."""
        start = 0
        while self._control is not None and start + PIECE_CHARS < len(text):
            cut = self._control.search(text, start + PIECE_CHARS)
            if cut is None:
                break
            yield text[start : cut.start()]
            start = cut.start()
        yield text[start:]

    def _begun(self, tokens: list[int]) -> list[int]:
        prefix = self._tokenizer.prefix
        return tokens if tokens[: len(prefix)] == prefix else prefix + tokens

    def _mark(self, marker: str) -> Mark:
        """A function that inserts `marker` into each spelling of a control token."""
        control = self._control
        if control is None:
            return lambda text: text
        return lambda text: control.sub(lambda m: m[0][:1] + marker + m[0][1:], text)

    def _segments(self, rendered: str, marker: str) -> list[tuple[str, bool]]:
        """Pairs of (text, is plain); plain are spellings of control tokens that the user wrote.

        A marker that a template has moved away from its spelling still separates its neighbours.
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
    used = set[str]()
    for text in _texts(conversation):
        used.update(text)
        # Arguments and schemas are JSON, which can escape a marker.
        used.update(chr(int(digits, 16)) for digits in ESCAPED_MARKER.findall(text))
    for marker in MARKERS:
        if marker not in used:
            return marker
    raise InvalidRequest(ErrorText("no_marker_left"), param="messages")
