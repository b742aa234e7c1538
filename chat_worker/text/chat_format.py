"""How one model writes tool calls and thinking, and what follows from that for a request."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from chat_worker.backend import Tokenizer
from chat_worker.constraints.grammar import answer_schema
from chat_worker.constraints.thinking import ThinkingFirst
from chat_worker.engine.sampling import TokenConstraint
from chat_worker.pipe_messages import ConstraintSpec, Conversation, Generate, Message, Tool
from chat_worker.text import reasoning
from chat_worker.text.reply import ReplyFormat, schema_of
from chat_worker.text.template import function_of
from chat_worker.text.tool_calls.filter import MARKERS
from chat_worker.text.tool_calls.formats import (
    calls_or_answer,
    forced_calls,
    format_of,
    renders_tools,
    tools_prompt,
)
from common.errors import InvalidRequest

# Tokens at a prompt's end in which an opened thinking would be seen.
TAIL_TOKENS = 12


class ChatFormat:
    """
    Args:
        template: source of the model's chat template; empty: it has none.
    """

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._call_format = format_of(template, tokenizer.control_strings)
        self._renders_tools = renders_tools(template)
        self._thinks = reasoning.thinks(template)
        self._opening = self._mark(reasoning.OPENING)
        self._closing = self._mark(reasoning.CLOSING)
        marks = [*map(self._mark, MARKERS), self._opening, self._closing]
        # Control tokens are not shown, but these say what is what.
        self.marks = frozenset(ids[0] for ids in marks if len(ids) == 1)

    def with_tools_described(self, conversation: Conversation) -> Conversation:
        """The conversation, which tells of its tools also to a model whose template does not."""
        if not conversation.tools or self._renders_tools:
            return conversation
        text = tools_prompt([function_of(tool) for tool in conversation.tools])
        first, *rest = conversation.messages
        if first.role in ("system", "developer"):
            messages = [msgspec.structs.replace(first, content=f"{first.content}\n\n{text}"), *rest]
        else:
            messages = [Message("system", text), first, *rest]
        return msgspec.structs.replace(conversation, messages=messages)

    def reply_format(self, request: Generate, prompt: list[int]) -> ReplyFormat:
        """What a reply to `prompt` may hold.

        Raises:
            InvalidRequest: a tool's parameters are no schema.
        """
        if not isinstance(request.input, Conversation):
            return ReplyFormat(stops=request.stop)
        return ReplyFormat(
            stops=request.stop,
            schemas=_schemas(request.input.tools),
            parallel_calls=_parallel(request.input),
            forced_calls=request.input.must_call,
            thinks=self._thinks,
            begins_thinking=self._thinks and self._has_opened(prompt),
        )

    def required_grammar(self, request: Generate) -> ConstraintSpec | None:
        """The grammar that the answer must follow: the request's own, that of forced calls, or
        one that leaves the choice between both to the model.

        Raises:
            InvalidRequest: a format leaves no room for calls, or what is to be followed is no
                schema.
        """
        own, conversation = request.constraint, request.input
        if not isinstance(conversation, Conversation) or not conversation.tools:
            return own
        if own is not None and own.kind not in ("json_object", "json_schema"):
            raise InvalidRequest(
                f"a {own.kind} leaves no room for calls, but tools are offered",
                param=own.kind,
                suggestions=("let tool_choice be none", "use a response_format of json_schema"),
            )
        if conversation.must_call:
            return self._forced(conversation)
        if own is None:
            return None
        schemas, parallel = _schemas(conversation.tools), conversation.parallel_calls
        grammar = calls_or_answer(self._call_format, schemas, answer_schema(own), parallel=parallel)
        return ConstraintSpec("tools", grammar)

    def _forced(self, conversation: Conversation) -> ConstraintSpec:
        grammar = forced_calls(
            self._call_format,
            _schemas(conversation.tools),
            conversation.must_call_name,
            parallel=_parallel(conversation),
        )
        return ConstraintSpec("tools", grammar)

    def constraint_after_thinking(
        self, request: Generate, reply_format: ReplyFormat, answer: TokenConstraint | None
    ) -> TokenConstraint | None:
        """`answer` for the time after the thinking, which may have a budget."""
        budget = None
        if isinstance(request.input, Conversation):
            budget = request.input.template_kwargs.get("thinking_budget")
        if isinstance(budget, bool) or not isinstance(budget, int | None) or (budget or 0) < 0:
            raise InvalidRequest(
                "thinking_budget must be a number of tokens", param="chat_template_kwargs"
            )
        if not reply_format.thinks or (answer is None and budget is None):
            return answer
        return ThinkingFirst(
            opening=self._opening,
            closing=self._closing,
            begins_inside=reply_format.begins_thinking,
            budget=budget,
            end_tokens=self._tokenizer.end_tokens,
            answer=answer,
        )

    def ignored(self, request: Generate) -> list[str]:
        """What asks for something and gets nothing from this model: arguments of its template,
        `strict` of tools where no grammar holds the calls, the format of a text that never comes.
        """
        conversation = request.input
        if not isinstance(conversation, Conversation):
            return []
        found = [n for n, v in conversation.template_kwargs.items() if not self._has_effect(n, v)]
        if conversation.must_call:
            # Nothing but calls comes, and stop strings are looked for in text only.
            overruled = {"response_format": request.constraint, "stop": request.stop}
            return found + [name for name, sent in overruled.items() if sent]
        if request.constraint is None and any(tool.strict for tool in conversation.tools):
            found.append("strict")
        return found

    def _has_effect(self, name: str, value: str | bool | int | float) -> bool:
        if re.search(rf"\b{name}\b", self._template):
            return True
        if self._thinks:
            return name == "thinking_budget"
        # Whoever never thinks does as one asks who wants no thinking.
        return not value

    def _mark(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, parse_control=True)

    def _has_opened(self, prompt: list[int]) -> bool:
        tail = (self._tokenizer.piece(token, show_control=True) for token in prompt[-TAIL_TOKENS:])
        return b"".join(tail).rstrip().endswith(reasoning.OPENING.encode())


def _parallel(conversation: Conversation) -> bool:
    """A tool that is asked for by its name is called once."""
    return conversation.parallel_calls and not conversation.must_call_name


def _schemas(tools: list[Tool]) -> Mapping[str, dict[str, Any]]:
    found = {}
    for index, tool in enumerate(tools):
        try:
            found[tool.name] = schema_of(tool.parameters)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(
                "the parameters are not a JSON schema of an object",
                param=f"tools[{index}].function.parameters",
            ) from error
    return found
