"""Adapts a conversation to what the model's template can show, so that nothing is lost.

Clients send everything that OpenAI's API allows; templates show less. Each step here handles one
thing that many templates cannot show, and is applied only if the model's template cannot show it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from chat_worker.pipe_messages import Conversation, Message, Tool
from chat_worker.text.json_repair import arguments_of
from chat_worker.text.template_traits import Traits
from chat_worker.text.template_variables import function_of

SYSTEM_ROLES = ("system", "developer")


def adapted(conversation: Conversation, traits: Traits) -> Conversation:
    """The conversation in a form that a template with these traits shows completely."""
    messages, tools = _with_names_of_tools(conversation.messages), conversation.tools
    if tools and not traits.takes_tools:
        messages, tools = _with_tools_in_system(tools, messages), []
    if not traits.takes_calls:
        messages = list(_calls_as_text(messages))
    else:
        if not traits.takes_parallel_calls:
            messages = list(_one_call_at_a_time(messages))
        if not traits.takes_words_with_calls:
            messages = list(_words_before_calls(messages))
    if traits.takes_calls and traits.ids == "nine":
        messages = [_with_ids_of_nine(message) for message in messages]
    if not traits.takes_system:
        messages = _without_system(messages)
    elif not traits.takes_late_system:
        n_first = next((i for i, m in enumerate(messages) if m.role not in SYSTEM_ROLES), 0)
        messages = [*messages[:n_first], *_without_system(messages[n_first:])]
    if traits.alternates:
        messages = _alternating(messages)
    return replace(conversation, messages=messages, tools=tools)


def as_plain_turns(conversation: Conversation, traits: Traits) -> Conversation:
    """The conversation in a form that any template shows: user and assistant texts in turns."""
    least = Traits(shape=traits.shape, alternates=True)
    found = adapted(conversation, least)
    if found.messages[0].role == "assistant":
        return replace(found, messages=[Message("user"), *found.messages])
    return found


def tools_as_text(tools: Sequence[Tool]) -> str:
    """A description of the tools in text, for a model whose template does not show tools."""
    lines = "\n".join(json.dumps(function_of(tool), ensure_ascii=False) for tool in tools)
    return (
        "You can call these tools:\n"
        f"{lines}\n"
        "To call one, answer with nothing but JSON of this form:\n"
        '[{"name": "<tool>", "arguments": {<arguments>}}]'
    )


def _with_tools_in_system(tools: Sequence[Tool], messages: list[Message]) -> list[Message]:
    text = tools_as_text(tools)
    first, *rest = messages
    if first.role in SYSTEM_ROLES:
        return [replace(first, content=f"{first.content}\n\n{text}"), *rest]
    return [Message("system", text), *messages]


def _with_names_of_tools(messages: list[Message]) -> list[Message]:
    """Results with the names of their tools, which many templates need and clients may omit."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}

    def named(message: Message) -> Message:
        name = message.name or names.get(message.tool_call_id, "")
        return replace(message, name=name) if message.role == "tool" else message

    return [named(message) for message in messages]


def _calls_as_text(messages: list[Message]) -> Iterator[Message]:
    """Calls in the notation that `tools_as_text` asks for, and results as user messages."""
    for message in messages:
        if message.tool_calls:
            calls = [
                {"name": call.name, "arguments": arguments_of(call.arguments)}
                for call in message.tool_calls
            ]
            text = json.dumps(calls, ensure_ascii=False)
            content = f"{message.content}\n{text}" if message.content else text
            yield replace(message, content=content, tool_calls=[])
        elif message.role == "tool":
            yield Message("user", f"Result of {message.name or 'the tool'}: {message.content}")
        else:
            yield message


def _one_call_at_a_time(messages: list[Message]) -> Iterator[Message]:
    """One message for each call, followed by its result."""
    results = {message.tool_call_id: message for message in messages if message.role == "tool"}
    placed: set[str] = set()
    for message in messages:
        if len(message.tool_calls) < 2:
            if message.role != "tool" or message.tool_call_id not in placed:
                yield message
            continue
        for number, call in enumerate(message.tool_calls):
            yield replace(message, content="" if number else message.content, tool_calls=[call])
            if call.id in results and call.id not in placed:
                placed.add(call.id)
                yield results[call.id]


def _words_before_calls(messages: list[Message]) -> Iterator[Message]:
    for message in messages:
        if message.tool_calls and message.content:
            yield Message("assistant", message.content)
            message = replace(message, content="")
        yield message


def _with_ids_of_nine(message: Message) -> Message:
    calls = [replace(call, id=_id_of_nine(call.id)) for call in message.tool_calls]
    answered = _id_of_nine(message.tool_call_id) if message.tool_call_id else ""
    return replace(message, tool_calls=calls, tool_call_id=answered)


def _id_of_nine(call_id: str) -> str:
    """A nine-character id as Mistral's templates expect; equal ids give equal results."""
    if len(call_id) == 9 and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:9]


def _without_system(messages: list[Message]) -> list[Message]:
    """System messages are moved to the beginning of the next user message."""
    found: list[Message] = []
    pending: list[str] = []
    for message in messages:
        if message.role in SYSTEM_ROLES:
            pending.append(message.content)
        elif message.role == "user" and pending:
            found.append(replace(message, content="\n\n".join([*pending, message.content])))
            pending = []
        else:
            found.append(message)
    return [*found, Message("user", "\n\n".join(pending))] if pending else found


def _alternating(messages: list[Message]) -> list[Message]:
    """Consecutive messages of one role are joined into one."""
    found: list[Message] = []
    for message in messages:
        last = found[-1] if found else None
        if last is None or last.role != message.role or _has_call(last) or _has_call(message):
            found.append(message)
        else:
            both = (text for text in (last.content, message.content) if text)
            found[-1] = replace(last, content="\n\n".join(both))
    return found


def _has_call(message: Message) -> bool:
    return bool(message.tool_calls or message.tool_call_id)


def continued(conversation: Conversation) -> Message | None:
    """The assistant's message at the end that the answer continues, if there is one."""
    last = conversation.messages[-1] if conversation.messages else None
    if last is None or last.role != "assistant" or last.tool_calls:
        return None
    is_said = conversation.template_kwargs.get("add_generation_prompt") is not None
    return None if is_said else last
