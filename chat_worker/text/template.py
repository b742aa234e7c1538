"""Renders a model's own chat template, which is a program by a stranger, within bounds.

Sizes are bounded by `sandbox.py`; here are time (the rendering thread is interrupted) and the
length of the output. What remains is at worst a failed request in a process that runs this model
only. Templates come from the model's files, never from a request.
"""

import ctypes
import json
import threading
from collections.abc import Callable
from typing import Any

from jinja2.exceptions import SecurityError

from chat_worker.pipe_messages import Conversation, Message, Tool
from chat_worker.text.sandbox import Refusal, bounded_environment
from common.errors import InvalidRequest

LIMIT_S = 2.0
MAX_OUTPUT_CHARS = 16 * 1024 * 1024


class RenderTimeout(BaseException):
    """Raised inside a rendering thread that takes too long; no template can catch it."""


class ChatTemplate:
    """A compiled template.

    Args:
        source: Jinja source, from the model's files.
        special_texts: such as {"bos_token": "<s>"}.
    Raises:
        jinja2.TemplateError: the source is not valid Jinja.
    """

    def __init__(self, source: str, special_texts: dict[str, str]) -> None:
        self._template = bounded_environment().from_string(source)
        self._special_texts = special_texts

    def render(self, conversation: Conversation) -> str:
        """The prompt, ending where the assistant's answer begins.

        Raises:
            InvalidRequest: the template refuses these messages or takes too long over them.
        """
        variables: dict[str, Any] = {
            "add_generation_prompt": True,
            **conversation.template_kwargs,
            **self._special_texts,
            "messages": [_as_templates_expect(message) for message in conversation.messages],
            "tools": [function_of(tool) for tool in conversation.tools] or None,
            "documents": None,
        }
        return _within_limits(lambda: self._collect(variables))

    def _collect(self, variables: dict[str, Any]) -> str:
        pieces: list[str] = []
        n_chars = 0
        for piece in self._template.generate(variables):
            n_chars += len(piece)
            if n_chars > MAX_OUTPUT_CHARS:
                raise SecurityError("the template's output is too long")
            pieces.append(piece)
        return "".join(pieces)


def _within_limits(render: Callable[[], str]) -> str:
    """Run `render` on a thread of its own that is interrupted after `LIMIT_S`."""
    outcome: list[str | BaseException] = []

    def main() -> None:
        try:
            outcome.append(render())
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame; sorted below
            outcome.append(error)

    thread = threading.Thread(target=main, name="template", daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if not outcome:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(RenderTimeout)
        )
        raise InvalidRequest(
            "the model's chat template took too long over these messages", param="messages"
        )
    return _sorted_out(outcome[0])


def _sorted_out(outcome: str | BaseException) -> str:
    match outcome:
        case str(text):
            return text
        case Refusal() as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {str(error)[:300]}",
                param="messages",
            )
        case SecurityError() | MemoryError() | RecursionError() | OverflowError():
            raise InvalidRequest(
                "the model's chat template does what templates must not do", param="messages"
            )
        case _:
            # A template that fails on valid messages is the model's fault, not the client's;
            # most often it expects other roles or an order of turns.
            raise InvalidRequest(
                "the model's chat template fails on these messages "
                f"({type(outcome).__name__}); it may expect other roles or another order of turns",
                param="messages",
            ) from outcome


def _as_templates_expect(message: Message) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": message.content}
    if message.name:
        plain["name"] = message.name
    if message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        plain["reasoning_content"] = message.reasoning
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _parsed(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return plain


def function_of(tool: Tool) -> dict[str, Any]:
    """As OpenAI's API has it, which is what templates expect."""
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": _parsed(tool.parameters),
    }
    return {"type": "function", "function": function}


def _parsed(arguments: str) -> Any:
    """As an object, which templates take apart: an empty one for nothing, text if it is no JSON."""
    try:
        return json.loads(arguments.strip() or "{}")
    except (ValueError, RecursionError):
        return arguments
