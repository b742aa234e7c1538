"""What a model does not do of what it is asked is said, not kept quiet."""

import pytest

from chat_worker.backend import Tokenizer
from chat_worker.constraints.grammar import Grammars
from chat_worker.constraints.thinking import ThinkingFirst
from chat_worker.pipe_messages import ConstraintSpec, Conversation, Generate, Message, Tool
from chat_worker.text.chat_format import ChatFormat
from chat_worker.text.reasoning import THINK
from common.errors import InvalidRequest

PLAIN = "{{ messages }}"
THINKS = "{% if enable_thinking %}<think>{% endif %}</think>"
WITH_EFFORT = "{{ reasoning_effort }} </think>"
STRICT = Tool("f", strict=True)


@pytest.mark.parametrize(
    ("template", "sent", "ignored"),
    [
        (PLAIN, {"enable_thinking": True}, ["enable_thinking"]),
        (PLAIN, {"enable_thinking": False}, []),
        (PLAIN, {"reasoning_effort": "low"}, ["reasoning_effort"]),
        (THINKS, {"enable_thinking": False}, []),
        (THINKS, {"thinking": False}, ["thinking"]),
        (THINKS, {"thinking_budget": 5}, []),
        (THINKS, {"reasoning_effort": "low"}, ["reasoning_effort"]),
        (WITH_EFFORT, {"reasoning_effort": "low"}, []),
        (WITH_EFFORT, {"enable_thinking": False}, ["enable_thinking"]),
    ],
)
def test_an_argument_that_the_template_does_not_know_is_named(
    tokenizer: Tokenizer,
    template: str,
    sent: dict[str, str | bool | int | float],
    ignored: list[str],
) -> None:
    asked = Generate(input=Conversation([Message("user", "hi")], template_kwargs=sent))
    assert ChatFormat(tokenizer, template).plan(asked).ignored == ignored


def test_strict_tools_are_held_only_where_a_grammar_is(tokenizer: Tokenizer) -> None:
    def asked(*, must_call: bool = False, constraint: ConstraintSpec | None = None) -> Generate:
        talk = Conversation([Message("user", "hi")], tools=[STRICT], must_call=must_call)
        return Generate(input=talk, constraint=constraint)

    chat_format = ChatFormat(tokenizer, PLAIN)
    # A grammar holds the call once it has begun.
    assert chat_format.plan(asked()).ignored == []
    assert chat_format.plan(asked(must_call=True)).ignored == []
    assert chat_format.plan(asked(constraint=ConstraintSpec("json_object"))).ignored == []
    # A forced call leaves no text that could have a format.
    both = asked(must_call=True, constraint=ConstraintSpec("json_object"))
    assert chat_format.plan(both).ignored == ["response_format"]
    required_grammar = chat_format.plan(both).required_grammar
    assert required_grammar is not None
    assert required_grammar.kind == "tools"


@pytest.mark.parametrize("must_call", [False, True])
def test_a_regex_leaves_no_room_for_calls(tokenizer: Tokenizer, must_call: bool) -> None:
    talk = Conversation([Message("user", "hi")], tools=[STRICT], must_call=must_call)
    with pytest.raises(InvalidRequest):
        ChatFormat(tokenizer, PLAIN).plan(
            Generate(input=talk, constraint=ConstraintSpec("regex", "a"))
        )


def test_a_plan_says_all_that_a_request_means_to_a_model(tokenizer: Tokenizer) -> None:
    talk = Conversation(
        [Message("user", "hi")], {"thinking_budget": 5, "thinking": False}, tools=[Tool("f")]
    )
    plan = ChatFormat(tokenizer, THINKS).plan(Generate(input=talk, stop=["."]))
    assert plan.required_grammar is None
    assert plan.ignored == ["thinking"]
    assert plan.thinking_budget == 5
    assert list(plan.reply_format.schemas) == ["f"]
    assert (plan.reply_format.stops, plan.reply_format.thinking) == (["."], THINK)
    assert plan.once_begun is not None
    opened = tokenizer.encode("hi<think>", parse_control=True)
    assert plan.begun(opened).begins_thinking
    assert not plan.begun(opened[:1]).begins_thinking
    assert isinstance(plan.constraint(plan.reply_format, Grammars(tokenizer).start), ThinkingFirst)


@pytest.mark.parametrize("budget", [True, -1, "5", 1.5])
def test_a_budget_that_is_no_number_of_tokens_is_refused(
    tokenizer: Tokenizer, budget: str | float
) -> None:
    talk = Conversation([Message("user", "hi")], {"thinking_budget": budget})
    with pytest.raises(InvalidRequest, match="thinking_budget"):
        ChatFormat(tokenizer, PLAIN).plan(Generate(input=talk))
