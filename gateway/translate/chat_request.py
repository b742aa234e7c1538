"""A chat completion request as `GenerateRequest`."""

from common.error_texts import ErrorText
from common.errors import InvalidRequest
from gateway.schemas.chat import (
    AllowedTools,
    ChatRequest,
    Message,
    NamedTool,
    OtherPart,
    RefusalPart,
    Tool,
    ToolCall,
)
from gateway.translate.formats import constraint
from gateway.translate.request_parts import as_tool, not_text, tool_choice
from gateway.translate.sampling import (
    ChatDefaults,
    effort_kwargs,
    sampling,
    stop_strings,
    token_limit,
)
from protos.y26hkx.v1 import chat_pb2


def generate_request(
    body: ChatRequest, defaults: ChatDefaults, cache_salt: str
) -> chat_pb2.GenerateRequest:
    """Raises:
    InvalidRequest: fields that contradict each other.
    UnsupportedParameter: a known field with a value that is not offered.
    """
    request = chat_pb2.GenerateRequest(
        model=body.model or "",
        conversation=_conversation(body),
        sampling=sampling(body, defaults),
        max_tokens=token_limit(body.max_completion_tokens or body.max_tokens, defaults),
        stop=stop_strings(body),
        n=body.n or 1,
        ignore_eos=bool(body.ignore_eos),
        constraint=constraint(body),
        keep_alive_s=body.keep_alive,
        cache_salt=cache_salt,
    )
    if body.logprobs:
        request.top_logprobs = body.top_logprobs or 0
    return request


def _conversation(body: ChatRequest) -> chat_pb2.Conversation:
    messages = [message_of(message, at) for at, message in enumerate(body.messages)]
    conversation = chat_pb2.Conversation(
        messages=messages,
        tools=[tool_of(tool) for tool in _offered(body)],
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls,
    )
    conversation.template_kwargs.update(_thinking(body))
    if body.begins_anew:
        conversation.template_kwargs["add_generation_prompt"] = True
    conversation.template_kwargs.update(body.chat_template_kwargs or {})
    return conversation


def _thinking(body: ChatRequest) -> dict[str, str | bool]:
    if isinstance(body.think, bool):
        return {"enable_thinking": body.think} | effort_kwargs(body.reasoning_effort)
    return effort_kwargs(body.reasoning_effort or body.think)


def _offered(body: ChatRequest) -> list[Tool]:
    choice, tools = body.tool_choice, body.tools or []
    if not isinstance(choice, AllowedTools):
        return tools
    return [tool for tool in tools if tool.function.name in choice.names]


def message_of(message: Message, at: int) -> chat_pb2.Message:
    calls = list(message.tool_calls or [])
    if message.function_call is not None:
        old = message.function_call
        calls.append(ToolCall(id=_old_id(old.name), function=old))
    is_result = message.role == "function"
    return chat_pb2.Message(
        role="tool" if is_result else message.role,
        content=_text(message, at),
        name=message.name or "",
        tool_calls=[
            chat_pb2.ToolCall(
                id=call.id or "", name=call.function.name, arguments=call.function.arguments
            )
            for call in calls
        ],
        tool_call_id=_old_id(message.name or "") if is_result else message.tool_call_id or "",
        reasoning=message.reasoning_content or message.reasoning or "",
    )


def _old_id(name: str) -> str:
    """Calls from before there were tools have no ids."""
    return f"function_{name}"


def tool_of(tool: Tool) -> chat_pb2.Tool:
    made = tool.function
    return as_tool(made.name, made.description, made.parameters, made.strict)


def _text(message: Message, at: int) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or message.refusal or ""
    pieces = []
    for number, part in enumerate(message.content):
        if isinstance(part, OtherPart):
            raise not_text(part.type, f"messages[{at}].content[{number}].type")
        pieces.append(part.refusal if isinstance(part, RefusalPart) else part.text)
    return "".join(pieces)


def _tool_choice(body: ChatRequest) -> chat_pb2.ToolChoice | None:
    choice = body.tool_choice
    if choice is None:
        return None
    names = {tool.function.name for tool in body.tools or []}
    if isinstance(choice, NamedTool):
        if choice.function.name not in names:
            raise InvalidRequest(ErrorText("tool_choice_unknown"), param="tool_choice")
        return chat_pb2.ToolChoice(mode=chat_pb2.ToolChoice.MODE_NAMED, name=choice.function.name)
    if isinstance(choice, AllowedTools):
        if not choice.names <= names:
            raise InvalidRequest(ErrorText("tool_choice_allows_unknown"), param="tool_choice")
        choice = choice.allowed_tools.mode
    if choice == "auto" and not names:
        return None
    if choice != "none" and not names:
        raise InvalidRequest(ErrorText("tool_choice_needs_tools"), param="tool_choice")
    return tool_choice(choice)
