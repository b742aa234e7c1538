"""How one model writes tool calls and thinking, and what this means for a request.

`ChatFormat.plan` derives everything that follows from a request in one step.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chat_worker.backend import Tokenizer
from chat_worker.constraints.calls_once_begun import CallsOnceBegun
from chat_worker.constraints.compile import answer_schema, ignored_keywords
from chat_worker.constraints.grammar import GrammarConstraint
from chat_worker.constraints.thinking import ThinkingFirst
from chat_worker.engine.sampling import TokenConstraint
from chat_worker.pipe_messages import ConstraintSpec, Conversation, Generate, Tool
from chat_worker.text.reasoning import thinking_marks
from chat_worker.text.reply import ReplyFormat, schema_of
from chat_worker.text.tool_calls.grammars import CallGrammars
from chat_worker.text.tool_calls.marks import SHOWN
from chat_worker.text.tool_calls.notation import notation_of
from common.error_texts import ErrorText
from common.errors import InvalidRequest

# The number of tokens at a prompt's end in which an opened thinking is looked for.
TAIL_TOKENS = 12
# Functionary 3.2 writes to whom each message goes: to a tool, or with this word to the user.
TO_USER = "all"


@dataclass(frozen=True)
class ReplyPlan:
    """How the engine handles one request.

    Args:
        required_grammar: the grammar that the answer must follow: the request's own, that of forced
            calls, or one that lets the model choose between both. None: the answer is free.
        once_begun: the grammar of calls that the model may begin; None if there are no calls, or if
            their beginning cannot be recognized.
        reply_format: the parts that the reply may have; `begun` adds whether the prompt opens the
            thinking.
        thinking_budget: the most tokens of thinking; None: no limit.
        ignored: names of request fields that have no effect with this model.
    """

    chat_format: "ChatFormat"
    required_grammar: ConstraintSpec | None
    once_begun: ConstraintSpec | None
    reply_format: ReplyFormat
    thinking_budget: int | None
    ignored: list[str]

    def begun(self, prompt: list[int]) -> ReplyFormat:
        """The format of the reply to these tokens, whose end may have opened the thinking."""
        begins = self.reply_format.thinking is not None and self.chat_format.has_opened(prompt)
        return replace(self.reply_format, begins_thinking=begins)

    def constraint(
        self, reply_format: ReplyFormat, start: Callable[[ConstraintSpec], GrammarConstraint]
    ) -> TokenConstraint | None:
        """The constraint of the answer, if any: its grammar applies after the thinking, which may
        have a budget.

        Args:
            start: begins an answer under a grammar.
        """
        answer = None if self.required_grammar is None else start(self.required_grammar)
        if reply_format.thinking is None or (answer is None and self.thinking_budget is None):
            begun = self.once_begun
            if answer is not None or begun is None:
                return answer
            return self.chat_format.calls_once_begun(reply_format, lambda: start(begun))
        return self.chat_format.thinking_first(
            answer, self.thinking_budget, begins_inside=reply_format.begins_thinking
        )


class ChatFormat:
    """The format of one model.

    Args:
        template: source of the model's chat template; empty if it has none.
        written: calls as the template renders them, see `template_traits.Traits.written`.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: str, written: tuple[str, str] = ("", "")
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._calls = CallGrammars(notation_of(*written), tokenizer)
        self._thinking = thinking_marks(template)
        self._addressee = f"{TO_USER}\n" if f">>>{TO_USER}" in template else ""
        own = self._thinking.all if self._thinking is not None else ()
        marks = map(self._mark, (*SHOWN, *own))
        # Control tokens are normally hidden, but these mark the parts of a reply.
        self.marks = frozenset(ids[0] for ids in marks if len(ids) == 1)

    def plan(self, request: Generate) -> ReplyPlan:
        """How to handle `request`.

        Raises:
            InvalidRequest: the response format does not allow calls, the schema is not valid, or
                the thinking budget is not a number.
        """
        once_begun = self._once_begun(request)
        return ReplyPlan(
            self,
            self._demanded(request),
            once_begun,
            self._reply_form(request),
            _thinking_budget(request),
            self._ignored(request, holds_calls=once_begun is not None),
        )

    def _reply_form(self, request: Generate) -> ReplyFormat:
        if not isinstance(request.input, Conversation):
            return ReplyFormat(stops=request.stop)
        return ReplyFormat(
            addressee=self._addressee,
            stops=request.stop,
            schemas=_schemas(request.input.tools),
            parallel_calls=_parallel(request.input),
            forced_calls=request.input.must_call,
            thinking=self._thinking,
        )

    def _demanded(self, request: Generate) -> ConstraintSpec | None:
        own, conversation = request.constraint, request.input
        if not isinstance(conversation, Conversation) or not conversation.tools:
            return own
        if own is not None and own.kind not in ("json_object", "json_schema"):
            raise InvalidRequest(
                ErrorText("no_room_for_calls", kind=own.kind),
                param=own.kind,
                suggestions=(ErrorText("no_tool_choice"), ErrorText("use_json_schema")),
            )
        if conversation.must_call:
            return self._forced(conversation)
        if own is None:
            return None
        schemas, parallel = _schemas(conversation.tools), conversation.parallel_calls
        grammar = self._calls.calls_or_answer(schemas, answer_schema(own), parallel=parallel)
        return self._tools(grammar)

    def _once_begun(self, request: Generate) -> ConstraintSpec | None:
        conversation = request.input
        if not isinstance(conversation, Conversation) or not conversation.tools:
            return None
        schemas = _schemas(conversation.tools)
        is_held = conversation.must_call or request.constraint is not None
        if is_held or not self._calls.beginnings(schemas):
            return None
        return self._tools(self._calls.forced(schemas, "", parallel=conversation.parallel_calls))

    def calls_once_begun(
        self, reply_format: ReplyFormat, start: Callable[[], GrammarConstraint]
    ) -> CallsOnceBegun:
        return CallsOnceBegun(
            self._tokenizer,
            self._calls.beginnings(reply_format.schemas),
            start,
            parallel=reply_format.parallel_calls,
        )

    def _tools(self, grammar: str) -> ConstraintSpec:
        return ConstraintSpec("tools", grammar, has_raw_texts=self._calls.has_raw_texts)

    def _forced(self, conversation: Conversation) -> ConstraintSpec:
        grammar = self._calls.forced(
            _schemas(conversation.tools),
            conversation.must_call_name,
            parallel=_parallel(conversation),
        )
        return self._tools(grammar)

    def thinking_first(
        self, answer: TokenConstraint | None, budget: int | None, *, begins_inside: bool
    ) -> TokenConstraint:
        assert self._thinking is not None, "asked of models that think"
        return ThinkingFirst(
            opening=self._mark(self._thinking.opening),
            closing=self._mark(self._thinking.closing),
            begins_inside=begins_inside,
            budget=budget,
            end_tokens=self._tokenizer.end_tokens,
            answer=answer,
        )

    def _ignored(self, request: Generate, *, holds_calls: bool) -> list[str]:
        """Names of request fields that have no effect with this model.

        These are keywords of a schema, arguments of the template, `strict` of tools if no grammar
        constrains the calls, and the format of a text that is never generated.
        """
        found = list(ignored_keywords(request.constraint)) if request.constraint else []
        conversation = request.input
        if not isinstance(conversation, Conversation):
            return found
        kwargs = conversation.template_kwargs.items()
        found += [name for name, value in kwargs if not self._has_effect(name, value)]
        if conversation.must_call:
            # The answer consists of calls only, and stop strings are looked for in text only.
            overruled = {"response_format": request.constraint, "stop": request.stop}
            return found + [name for name, sent in overruled.items() if sent]
        is_free = request.constraint is None and not holds_calls
        if is_free and any(tool.strict for tool in conversation.tools):
            found.append("strict")
        return found

    def _has_effect(self, name: str, value: str | bool | int | float) -> bool:
        if re.search(rf"\b{name}\b", self._template):
            return True
        if self._thinking is not None:
            return name == "thinking_budget"
        # A model that never thinks already does what a request without thinking asks for.
        return not value

    def _mark(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, parse_control=True)

    def has_opened(self, prompt: list[int]) -> bool:
        """Whether the prompt ends within the thinking."""
        if self._thinking is None:
            return False
        opening = self._thinking.opening.rstrip().encode()
        tail = (self._tokenizer.piece(token, show_control=True) for token in prompt[-TAIL_TOKENS:])
        return b"".join(tail).rstrip().endswith(opening)


def _thinking_budget(request: Generate) -> int | None:
    if not isinstance(request.input, Conversation):
        return None
    budget = request.input.template_kwargs.get("thinking_budget")
    if isinstance(budget, bool) or not isinstance(budget, int | None) or (budget or 0) < 0:
        raise InvalidRequest(ErrorText("thinking_budget_wrong"), param="chat_template_kwargs")
    return budget


def _parallel(conversation: Conversation) -> bool:
    """Whether several calls are allowed; a tool that is required by its name is called once."""
    return conversation.parallel_calls and not conversation.must_call_name


def _schemas(tools: list[Tool]) -> Mapping[str, dict[str, Any]]:
    found = {}
    for index, tool in enumerate(tools):
        try:
            found[tool.name] = schema_of(tool.parameters)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(
                ErrorText("parameters_no_schema"),
                param=f"tools[{index}].function.parameters",
            ) from error
    return found
