"""A request of the Responses API as `GenerateRequest`: its items become messages."""

from collections.abc import Sequence

from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter
from gateway.schemas.responses import (
    AllowedTools,
    Content,
    FunctionCall,
    FunctionCallOutput,
    FunctionTool,
    Item,
    ItemReference,
    Message,
    NamedTool,
    OtherPart,
    Reasoning,
    RefusalPart,
    ResponsesRequest,
)
from gateway.translate.formats import schema_constraint
from gateway.translate.request_parts import as_tool, not_text, tool_choice
from gateway.translate.sampling import ChatDefaults, effort_kwargs, sampling, stop_strings
from protos.y26hkx.v1 import chat_pb2

# What clients of this API call the contract's fields.
NAMES = {"messages": "input", "response_format": "text.format", "max_tokens": "max_output_tokens"}


def generate_request(
    body: ResponsesRequest, defaults: ChatDefaults, cache_salt: str
) -> chat_pb2.GenerateRequest:
    """Raises:
    InvalidRequest: fields that contradict each other.
    UnsupportedParameter: a known field with a value that is not offered.
    """
    request = chat_pb2.GenerateRequest(
        model=body.model or "",
        conversation=_conversation(body),
        sampling=sampling(body, defaults),
        max_tokens=body.max_output_tokens or defaults.max_tokens,
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
    """Raises the same as `generate_request`."""
    return chat_pb2.ApplyTemplateRequest(
        model=body.model or "", conversation=_conversation(body), keep_alive_s=body.keep_alive
    )


def param_name(param: str | None) -> str | None:
    """A field that the worker complains of, as this API calls it."""
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
        tools=[as_tool(t.name, t.description, t.parameters, t.strict) for t in _offered(body)],
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls,
    )
    effort = body.reasoning.effort if body.reasoning else None
    conversation.template_kwargs.update(effort_kwargs(effort))
    return conversation


def _messages(items: Sequence[Item]) -> list[chat_pb2.Message]:
    """What a model thought, said and called in one turn are several items and one message."""
    _check_calls(items)
    messages: list[chat_pb2.Message] = []
    thoughts: list[str] = []
    for at, item in enumerate(items):
        if isinstance(item, Reasoning):
            thoughts += [piece.text for piece in item.content or item.summary or ()]
            continue
        said = _message(item, f"input[{at}]")
        if said.role == "assistant":
            said.reasoning = "".join(thoughts)
        thoughts.clear()
        if said.tool_calls and not said.reasoning and messages and messages[-1].role == said.role:
            messages[-1].tool_calls.extend(said.tool_calls)
        else:
            messages.append(said)
    return messages


def _check_calls(items: Sequence[Item]) -> None:
    called = set()
    for at, item in enumerate(items):
        if isinstance(item, FunctionCall):
            called.add(item.call_id)
        elif isinstance(item, FunctionCallOutput) and item.call_id not in called:
            raise InvalidRequest(
                ErrorText("call_output_without_call"),
                param=f"input[{at}].call_id",
                suggestions=(ErrorText("send_all_input"),),
            )


def _message(
    item: Message | FunctionCall | FunctionCallOutput | ItemReference, where: str
) -> chat_pb2.Message:
    match item:
        case Message():
            return chat_pb2.Message(role=item.role, content=_text(item.content, where))
        case FunctionCall():
            call = chat_pb2.ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)
            return chat_pb2.Message(role="assistant", tool_calls=[call])
        case FunctionCallOutput():
            text = _text(item.output, where, "output")
            return chat_pb2.Message(role="tool", content=text, tool_call_id=item.call_id)
        case ItemReference():
            raise UnsupportedParameter(
                ErrorText("item_reference_unsupported"),
                param=where,
                suggestions=(ErrorText("send_item"),),
            )


def _text(content: Content, where: str, field: str = "content") -> str:
    if isinstance(content, str):
        return content
    pieces = []
    for number, part in enumerate(content):
        if isinstance(part, OtherPart):
            raise not_text(part.type, f"{where}.{field}[{number}].type")
        pieces.append(part.refusal if isinstance(part, RefusalPart) else part.text)
    return "".join(pieces)


def _offered(body: ResponsesRequest) -> list[FunctionTool]:
    choice = body.tool_choice
    return [
        tool
        for tool in body.tools or []
        if not isinstance(choice, AllowedTools) or tool.name in choice.names
    ]


def _tool_choice(body: ResponsesRequest) -> chat_pb2.ToolChoice | None:
    choice = body.tool_choice
    if choice is None or (choice == "auto" and not body.tools):
        return None
    if choice == "required" and not body.tools:
        raise InvalidRequest(ErrorText("tool_choice_needs_tools"), param="tool_choice")
    if isinstance(choice, str):
        return tool_choice(choice)
    if not choice.names <= {tool.name for tool in body.tools or []}:
        raise InvalidRequest(ErrorText("tool_choice_unknown"), param="tool_choice")
    if isinstance(choice, NamedTool):
        return chat_pb2.ToolChoice(mode=chat_pb2.ToolChoice.MODE_NAMED, name=choice.name)
    return tool_choice(choice.mode)


def _constraint(body: ResponsesRequest) -> chat_pb2.Constraint | None:
    wanted = body.text.format if body.text else None
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return chat_pb2.Constraint(json_object=True)
    return schema_constraint(wanted.schema_ or {}, "text.format.schema")
