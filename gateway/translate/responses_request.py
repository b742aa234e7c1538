"""Translates a request of the Responses API to a `GenerateRequest`; items become messages."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.chat import OtherPart, RefusalPart
from gateway.schemas.responses import ResponsesRequest
from gateway.schemas.responses_items import (
    CallOutput,
    Content,
    CustomToolCall,
    FunctionCall,
    HostedItem,
    Item,
    ItemReference,
    LocalShellCall,
    McpCall,
    Message,
    Reasoning,
    TextPart,
)
from gateway.translate.formats import schema_constraint
from gateway.translate.request_parts import not_text
from gateway.translate.responses_tools import (
    as_arguments,
    choice_of_tool,
    model_name,
    offered_tools,
)
from gateway.translate.sampling import (
    ChatDefaults,
    effort_kwargs,
    sampling,
    stop_strings,
    token_limit,
)
from protos.y26hkx.v1 import chat_pb2

# The names that this API has for fields of the gRPC contract.
NAMES = {"messages": "input", "response_format": "text.format", "max_tokens": "max_output_tokens"}


def generate_request(
    body: ResponsesRequest, defaults: ChatDefaults, cache_salt: str
) -> chat_pb2.GenerateRequest:
    """Return the request to the worker.

    Raises:
        InvalidRequest: fields contradict each other.
        UnsupportedParameter: a known field has a value that is not supported.
    """
    request = chat_pb2.GenerateRequest(
        model=body.model or "",
        conversation=_conversation(body),
        sampling=sampling(body, defaults),
        max_tokens=token_limit(body.max_output_tokens or body.max_tokens, defaults),
        stop=stop_strings(body),
        n=1,
        ignore_eos=bool(body.ignore_eos),
        constraint=_constraint(body),
        keep_alive_s=body.keep_alive,
        cache_salt=cache_salt,
    )
    if body.wants_logprobs:
        request.top_logprobs = body.top_logprobs or 0
    return request


def template_request(body: ResponsesRequest) -> chat_pb2.ApplyTemplateRequest:
    """Return the request for the rendered prompt; it raises the same as `generate_request`."""
    return chat_pb2.ApplyTemplateRequest(
        model=body.model or "", conversation=_conversation(body), keep_alive_s=body.keep_alive
    )


def param_name(param: str | None) -> str | None:
    """Return this API's name of a field that an error of the worker names."""
    return None if param is None else NAMES.get(param.split("[")[0].split(".")[0], param)


def _conversation(body: ResponsesRequest) -> chat_pb2.Conversation:
    messages = []
    if body.instructions:
        messages.append(chat_pb2.Message(role="system", content=body.instructions))
    if isinstance(body.input, str):
        messages.append(chat_pb2.Message(role="user", content=body.input))
    else:
        messages += _messages(body.input)
    conversation = chat_pb2.Conversation(
        messages=messages,
        tools=[tool.as_function() for tool in offered_tools(body)],
        tool_choice=choice_of_tool(body),
        parallel_tool_calls=body.parallel_tool_calls,
    )
    effort = body.reasoning.effort if body.reasoning else None
    conversation.template_kwargs.update(effort_kwargs(effort))
    return conversation


def _messages(items: Sequence[Item]) -> list[chat_pb2.Message]:
    """Return the messages of the items; a turn's thoughts, text and calls become one message."""
    _check_calls(items)
    messages: list[chat_pb2.Message] = []
    thoughts: list[str] = []
    for at, item in enumerate(items):
        if isinstance(item, Reasoning):
            thoughts += [piece.text for piece in item.content or item.summary or ()]
            continue
        for said in _message(item, f"input[{at}]"):
            if said.role == "assistant":
                said.reasoning = "".join(thoughts)
            thoughts.clear()
            last = messages[-1] if messages else None
            if said.tool_calls and not said.reasoning and last and last.role == said.role:
                last.tool_calls.extend(said.tool_calls)
            else:
                messages.append(said)
    return messages


def _check_calls(items: Sequence[Item]) -> None:
    called = set()
    for at, item in enumerate(items):
        if isinstance(item, FunctionCall | CustomToolCall | LocalShellCall):
            called.add(item.call_id)
        elif isinstance(item, CallOutput) and item.answers not in called:
            raise InvalidRequest(
                ErrorText("call_output_without_call"),
                param=f"input[{at}].call_id",
                suggestions=(ErrorText("send_all_input"),),
            )


def _message(item: Item, where: str) -> Iterator[chat_pb2.Message]:
    match item:
        case Message():
            yield chat_pb2.Message(role=item.role, content=_text(item.content, where))
        case FunctionCall():
            yield _call(item.call_id, model_name(item.name, item.namespace), item.arguments)
        case CustomToolCall():
            name = model_name(item.name, item.namespace)
            yield _call(item.call_id, name, as_arguments(item.input))
        case LocalShellCall():
            yield _call(item.call_id, item.type.removesuffix("_call"), _json(item.action))
        case CallOutput():
            yield _result(item.answers, _output(item, where))
        case McpCall():
            yield _call(item.id, model_name(item.name, item.server_label), item.arguments)
            yield _result(item.id, item.output or _json(item.error))
        case Reasoning() | HostedItem() | ItemReference():
            # `with_history` has replaced references by their items; hosted items are left out.
            return


def _call(call_id: str, name: str, arguments: str) -> chat_pb2.Message:
    call = chat_pb2.ToolCall(id=call_id, name=name, arguments=arguments)
    return chat_pb2.Message(role="assistant", tool_calls=[call])


def _result(call_id: str, text: str) -> chat_pb2.Message:
    return chat_pb2.Message(role="tool", content=text, tool_call_id=call_id)


def _output(item: CallOutput, where: str) -> str:
    """Return the text of a call's output; a shell's list of objects becomes JSON."""
    if isinstance(item.output, str):
        return item.output
    parts = [part for part in item.output if isinstance(part, TextPart | RefusalPart | OtherPart)]
    if len(parts) < len(item.output):
        return _json(item.output)
    return _text(parts, where, "output")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(content: Content, where: str, field: str = "content") -> str:
    if isinstance(content, str):
        return content
    pieces = []
    for number, part in enumerate(content):
        if isinstance(part, OtherPart):
            raise not_text(part.type, f"{where}.{field}[{number}].type")
        pieces.append(part.refusal if isinstance(part, RefusalPart) else part.text)
    return "".join(pieces)


def _constraint(body: ResponsesRequest) -> chat_pb2.Constraint | None:
    wanted = body.text.format if body.text else None
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return chat_pb2.Constraint(json_object=True)
    return schema_constraint(wanted.schema_ or {}, "text.format.schema")
