"""What a model does not do of what it is asked is said, not kept quiet."""

import pytest

from chat_worker.backend import Tokenizer
from chat_worker.messages import Constraint, Conversation, Generate, Message, Tool
from chat_worker.text.dialect import Dialect
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
    assert Dialect(tokenizer, template).ignored(asked) == ignored


def test_strict_tools_are_held_only_where_a_grammar_is(tokenizer: Tokenizer) -> None:
    def asked(*, must_call: bool = False, constraint: Constraint | None = None) -> Generate:
        talk = Conversation([Message("user", "hi")], tools=[STRICT], must_call=must_call)
        return Generate(input=talk, constraint=constraint)

    dialect = Dialect(tokenizer, PLAIN)
    assert dialect.ignored(asked()) == ["strict"]
    assert dialect.ignored(asked(must_call=True)) == []
    assert dialect.ignored(asked(constraint=Constraint("json_object"))) == []
    # A forced call leaves no text that could have a format.
    both = asked(must_call=True, constraint=Constraint("json_object"))
    assert dialect.ignored(both) == ["response_format"]
    demanded = dialect.demanded(both)
    assert demanded is not None
    assert demanded.kind == "tools"


@pytest.mark.parametrize("must_call", [False, True])
def test_a_regex_leaves_no_room_for_calls(tokenizer: Tokenizer, must_call: bool) -> None:
    talk = Conversation([Message("user", "hi")], tools=[STRICT], must_call=must_call)
    with pytest.raises(InvalidRequest):
        Dialect(tokenizer, PLAIN).demanded(
            Generate(input=talk, constraint=Constraint("regex", "a"))
        )
