"""Renders a model's own chat template within bounds, because it is a program by a stranger.

`sandbox.py` bounds what it may do and `render_limits.py` how much of it; the worst remaining effect
is a failed request in a process that runs this model only. Templates come from the model's files,
never from a request.
"""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from jinja2.exceptions import SecurityError
from msgspec.structs import replace

from chat_worker.pipe_messages import Conversation
from chat_worker.text.history import adapted, as_plain_turns, continued
from chat_worker.text.render_limits import Check, rendering
from chat_worker.text.sandbox import Refusal, bounded_template
from chat_worker.text.simple_schemas import with_simple_schemas
from chat_worker.text.template_traits import Traits, traits_of
from chat_worker.text.template_variables import Mark, marked, variables
from common.error_texts import ErrorText
from common.errors import InvalidRequest

MAX_OUTPUT_CHARS = 16 * 1024 * 1024


class ChatTemplate:
    """A compiled template.

    Args:
        source: Jinja source from the model's files.
        special_texts: the texts of special tokens, such as {"bos_token": "<s>"}.
    Raises:
        jinja2.TemplateError: the source is not valid Jinja.
    """

    def __init__(self, source: str, special_texts: dict[str, str]) -> None:
        self._template = bounded_template(source)
        self._source = source
        self._special_texts = special_texts

    @cached_property
    def traits(self) -> Traits:
        """What the template can show, found by rendering about twenty small conversations."""
        return traits_of(self._source, self._rendered)

    def render(
        self, conversation: Conversation, check: Check | None = None, mark: Mark | None = None
    ) -> str:
        """The prompt up to where the assistant's answer begins or continues.

        Args:
            check: called from time to time; an exception that it raises ends the rendering.
            mark: applied to every text of the conversation before the template receives it.
        Raises:
            InvalidRequest: the template refuses these messages in any form, or takes too long.
        """

        def prompt(shown: Conversation) -> str:
            return self._prompt(shown, check, mark or _unmarked)

        forms = self._forms(conversation)
        try:
            return prompt(next(forms))
        except InvalidRequest:
            for shown in forms:
                with contextlib.suppress(InvalidRequest):
                    return prompt(shown)
            raise

    def _forms(self, conversation: Conversation) -> Iterator[Conversation]:
        """The conversation in one form after another, each of which more templates show."""
        yield adapted(conversation, self.traits)
        if conversation.tools:
            yield adapted(with_simple_schemas(conversation), self.traits)
        yield as_plain_turns(conversation, self.traits)

    def _prompt(self, conversation: Conversation, check: Check | None, mark: Mark) -> str:
        def rendered(shown: Conversation, *, ends_open: bool) -> str:
            found = variables(shown, self.traits.shape, add_generation_prompt=ends_open)
            return self._rendered(marked(found, mark), check)

        begun = continued(conversation)
        if begun is None:
            return rendered(conversation, ends_open=True)
        text = mark(begun.content)
        whole = rendered(conversation, ends_open=False)
        kept = text.strip()
        at = whole.rfind(kept) if kept else -1
        if at >= 0:
            # Many templates strip the white space of what they show.
            return whole[: at + len(kept)] + text[len(text.rstrip()) :]
        before = replace(conversation, messages=conversation.messages[:-1])
        return rendered(before, ends_open=True) + text

    def _rendered(self, found: dict[str, Any], check: Check | None = None) -> str:
        with rendering(check):
            try:
                return self._collect(found | self._special_texts)
            except Exception as error:
                # A template may fail in any way; the error is told to the client.
                raise _told(error) from error

    def _collect(self, variables: dict[str, Any]) -> str:
        pieces: list[str] = []
        n_chars = 0
        for piece in self._template.generate(variables):
            n_chars += len(piece)
            if n_chars > MAX_OUTPUT_CHARS:
                raise SecurityError("the template's output is too long")
            pieces.append(piece)
        return "".join(pieces)


def _told(error: Exception) -> InvalidRequest:
    match error:
        case Refusal():
            text = ErrorText("template_refuses", detail=str(error)[:300])
        case SecurityError() | MemoryError() | RecursionError() | OverflowError():
            text = ErrorText("template_forbidden")
        case _:
            # If a template fails on valid messages, the model is at fault, not the client; most
            # often the template expects other roles or another order of turns.
            text = ErrorText("template_fails", kind=type(error).__name__)
    return InvalidRequest(text, param="messages")


def _unmarked(text: str) -> str:
    return text
