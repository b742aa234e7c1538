"""Anthropic's messages as `GenerateRequest`, or, to be counted, as `ApplyTemplateRequest`."""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from common.error_texts import ErrorText
from common.errors import InvalidRequest, UnsupportedParameter
from gateway.schemas.messages import (
    Block,
    CountTokensRequest,
    DocumentBlock,
    MessagesRequest,
    OtherBlock,
    RedactedThinkingBlock,
    ServerTool,
    TextBlock,
    ThinkingBlock,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)
from gateway.translate.formats import schema_constraint
from gateway.translate.request_parts import as_tool, not_text
from gateway.translate.sampling import ChatDefaults
from protos.y26hkx.v1 import chat_pb2

# A turn's role and blocks; following turns of one role are one turn.
RoleBlocks = tuple[str, list[Block]]
MAY_HOLD: dict[str, tuple[type, ...]] = {
    "user": (TextBlock, DocumentBlock, ToolResultBlock),
    "assistant": (TextBlock, ToolUseBlock, ThinkingBlock, RedactedThinkingBlock),
    "system": (TextBlock,),
}
MODES = {
    "auto": chat_pb2.ToolChoice.MODE_AUTO,
    "any": chat_pb2.ToolChoice.MODE_REQUIRED,
    "tool": chat_pb2.ToolChoice.MODE_NAMED,
    "none": chat_pb2.ToolChoice.MODE_NONE,
}


def generate_request(
    body: MessagesRequest, defaults: ChatDefaults, cache_salt: str
) -> chat_pb2.GenerateRequest:
    """Raises:
    InvalidRequest: fields or turns that contradict each other.
    UnsupportedParameter: a known field or block that is not offered.
    """
    if body.container:
        raise UnsupportedParameter(ErrorText("container_unsupported"), param="container")
    return chat_pb2.GenerateRequest(
        model=body.model,
        conversation=_conversation(body),
        sampling=defaults.complete(
            chat_pb2.Sampling(temperature=body.temperature, top_p=body.top_p, top_k=body.top_k)
        ),
        max_tokens=body.max_tokens,
        stop=body.stop_sequences,
        n=1,
        constraint=_constraint(body),
        keep_alive_s=body.keep_alive,
        cache_salt=cache_salt,
    )


def template_request(body: CountTokensRequest) -> chat_pb2.ApplyTemplateRequest:
    """Raises the same as `generate_request`."""
    return chat_pb2.ApplyTemplateRequest(
        model=body.model, conversation=_conversation(body), keep_alive_s=body.keep_alive
    )


def _conversation(body: CountTokensRequest) -> chat_pb2.Conversation:
    if body.mcp_servers:
        raise UnsupportedParameter(
            ErrorText("mcp_unsupported"),
            param="mcp_servers",
            suggestions=(ErrorText("offer_their_tools"),),
        )
    turns = _turns(body)
    _check_order(turns)
    messages = [message for role, blocks in turns for message in _messages(role, blocks)]
    if system := _text(_blocks(body.system), "\n"):
        messages.insert(0, chat_pb2.Message(role="system", content=system))
    tools = _tools(body)
    conversation = chat_pb2.Conversation(messages=messages, tools=tools)
    if body.tool_choice is not None:
        names = {tool.name for tool in tools}
        conversation.tool_choice.CopyFrom(_tool_choice(body.tool_choice, names))
        if body.tool_choice.disable_parallel_tool_use is not None:
            conversation.parallel_tool_calls = not body.tool_choice.disable_parallel_tool_use
    if body.thinking is not None:
        conversation.template_kwargs["enable_thinking"] = body.thinking.type != "disabled"
        if body.thinking.budget_tokens is not None:
            conversation.template_kwargs["thinking_budget"] = body.thinking.budget_tokens
    return conversation


def _turns(body: CountTokensRequest) -> list[RoleBlocks]:
    """What each role says in turn, of blocks that can be read and belong there."""
    checked: list[RoleBlocks] = []
    for at, turn in enumerate(body.messages):
        blocks = _blocks(turn.content)
        for number, block in enumerate(blocks):
            place = f"messages[{at}].content[{number}]"
            _check_readable(block, place)
            if not isinstance(block, MAY_HOLD[turn.role]):
                raise InvalidRequest(
                    ErrorText("role_cannot_hold", role=turn.role, kind=block.type),
                    param=f"{place}.type",
                )
        checked.append((turn.role, blocks))
    return [
        (role, [block for _, blocks in group for block in blocks])
        for role, group in groupby(checked, key=lambda turn: turn[0])
    ]


def _check_readable(block: Block, place: str) -> None:
    is_file = isinstance(block, DocumentBlock) and block.text is None
    if is_file or isinstance(block, OtherBlock):
        raise not_text(block.type, f"{place}.type")
    if isinstance(block, ToolResultBlock):
        for number, part in enumerate(_blocks(block.content)):
            _check_readable(part, f"{place}.content[{number}]")


def _check_order(turns: list[RoleBlocks]) -> None:
    """Results answer the calls of the turn before, all of them, and none is left unanswered."""
    for (_, before), (_, after) in pairwise([("", []), *turns, ("", [])]):
        asked = {block.id for block in before if isinstance(block, ToolUseBlock)}
        answered = {block.tool_use_id for block in after if isinstance(block, ToolResultBlock)}
        if asked != answered:
            raise InvalidRequest(
                ErrorText("tool_results_unpaired"),
                param="messages",
            )


def _messages(role: str, blocks: list[Block]) -> Iterator[chat_pb2.Message]:
    results = [block for block in blocks if isinstance(block, ToolResultBlock)]
    for result in results:
        text = _text(_blocks(result.content), "\n")
        # The contract has no mark for it, and the model must know.
        content = f"Error: {text}" if result.is_error else text
        yield chat_pb2.Message(role="tool", content=content, tool_call_id=result.tool_use_id)
    # What the model said is repeated letter by letter: it may still be in the cache.
    text = _text(blocks, "" if role == "assistant" else "\n")
    if text or not results:
        yield chat_pb2.Message(
            role=role,
            content=text,
            tool_calls=[
                chat_pb2.ToolCall(
                    id=block.id,
                    name=block.name,
                    arguments=json.dumps(block.input, ensure_ascii=False),
                )
                for block in blocks
                if isinstance(block, ToolUseBlock)
            ],
            reasoning="".join(b.thinking for b in blocks if isinstance(b, ThinkingBlock)),
        )


def _blocks(content: str | Sequence[Block] | None) -> list[Block]:
    if isinstance(content, str):
        return [TextBlock(type="text", text=content)]
    return list(content or [])


def _text(blocks: Sequence[Block], between: str) -> str:
    readable = (block for block in blocks if isinstance(block, (TextBlock, DocumentBlock)))
    return between.join(block.text or "" for block in readable)


def _tools(body: CountTokensRequest) -> list[chat_pb2.Tool]:
    tools = []
    for at, tool in enumerate(body.tools or []):
        if isinstance(tool, ServerTool):
            raise UnsupportedParameter(
                ErrorText("tool_type_unsupported", kind=tool.type),
                param=f"tools[{at}].type",
                suggestions=(ErrorText("offer_tool_with_schema"),),
            )
        tools.append(as_tool(tool.name, tool.description, tool.input_schema, tool.strict))
    return tools


def _tool_choice(choice: ToolChoice, names: set[str]) -> chat_pb2.ToolChoice:
    if (choice.type == "tool") != (choice.name is not None):
        raise InvalidRequest(ErrorText("tool_choice_needs_name"), param="tool_choice.name")
    if choice.name is not None and choice.name not in names:
        raise InvalidRequest(ErrorText("tool_choice_unknown"), param="tool_choice.name")
    if choice.type != "none" and not names:
        raise InvalidRequest(ErrorText("tool_choice_needs_tools"), param="tool_choice")
    return chat_pb2.ToolChoice(mode=MODES[choice.type], name=choice.name or "")


def _constraint(body: MessagesRequest) -> chat_pb2.Constraint | None:
    if body.output_config is None or body.output_config.format is None:
        return None
    return schema_constraint(body.output_config.format.schema_, "output_config.format.schema")
