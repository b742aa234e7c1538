"""Every real template shows everything that a conversation holds, whatever it was written for."""

import json
from collections.abc import Callable
from functools import cache

import pytest

from chat_worker.pipe_messages import Conversation, Message, Tool, ToolCall
from chat_worker.text.template import ChatTemplate
from common.errors import InvalidRequest
from tests.real_templates import real_templates

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"]}},
    "required": ["city"],
}
TOOLS = [
    Tool("get_weather", "Looks outside.", json.dumps(PARAMETERS)),
    Tool("now", "", '{"type": "object", "properties": {}}'),
]
QUESTION = Message("user", "Which weather?")
CALLED = ToolCall("toolu_01AbC", "get_weather", '{"city": "Paris", "days": 3}')
AGAIN = ToolCall("call_2", "now", '{"zone": "Taipei"}')
CUT = ToolCall("call_3", "get_weather", '{"city": "Paris\\n", "days')
RESULT = Message("tool", "22 degrees", tool_call_id=CALLED.id)
OTHER_RESULT = Message("tool", "noon", tool_call_id=AGAIN.id)

TASKS: dict[str, tuple[Conversation, tuple[str, ...]]] = {
    "chat": (Conversation([QUESTION]), ("Which weather?",)),
    "system": (
        Conversation([Message("system", "Be brief."), QUESTION]),
        ("Be brief.", "Which weather?"),
    ),
    "developer, later": (
        Conversation([QUESTION, Message("assistant", "Sun."), Message("developer", "Now rhyme."),
                      Message("user", "Again.")]),
        ("Which weather?", "Sun.", "Now rhyme.", "Again."),
    ),
    "tools": (Conversation([QUESTION], tools=TOOLS), ("get_weather", "city", "Which weather?")),
    "call": (
        Conversation([QUESTION, Message("assistant", tool_calls=[CALLED]), RESULT], tools=TOOLS),
        ("Which weather?", "get_weather", "Paris", "22 degrees"),
    ),
    "call with words": (
        Conversation(
            [QUESTION, Message("assistant", "Let me see.", tool_calls=[CALLED]), RESULT,
             Message("assistant", "It is warm."), Message("user", "Thanks.")],
            tools=TOOLS,
        ),
        ("Paris", "22 degrees", "It is warm.", "Thanks."),
    ),
    "two calls": (
        Conversation(
            [QUESTION, Message("assistant", tool_calls=[CALLED, AGAIN]), RESULT, OTHER_RESULT],
            tools=TOOLS,
        ),
        ("Paris", "Taipei", "22 degrees", "noon"),
    ),
    "calls without tools": (
        Conversation([QUESTION, Message("assistant", tool_calls=[CALLED]), RESULT]),
        ("Which weather?", "Paris", "22 degrees"),
    ),
    "cut call": (
        Conversation(
            [QUESTION, Message("assistant", tool_calls=[CUT]),
             Message("tool", "no such city", tool_call_id=CUT.id), Message("user", "Thanks.")],
            tools=TOOLS,
        ),
        ("Paris", "no such city", "Thanks."),
    ),
    "thinking": (
        Conversation([QUESTION, Message("assistant", "Sun.", reasoning="Hm."), QUESTION]),
        ("Sun.",),
    ),
    "two from the user": (
        Conversation([QUESTION, Message("user", "And tomorrow?")]),
        ("Which weather?", "And tomorrow?"),
    ),
    "system alone": (Conversation([Message("system", "Be brief.")]), ("Be brief.",)),
    "thinking with a call": (
        Conversation(
            [QUESTION, Message("assistant", "Let me see.", reasoning="Hm.", tool_calls=[CALLED]),
             RESULT],
            tools=TOOLS,
        ),
        ("Which weather?", "Paris", "22 degrees"),
    ),
    "two from the assistant": (
        Conversation([QUESTION, Message("assistant", "Sun."), Message("assistant", "I think."),
                      QUESTION]),
        ("Which weather?", "Sun.", "I think."),
    ),
    "result, then a question": (
        Conversation([QUESTION, Message("assistant", tool_calls=[CALLED]), RESULT, QUESTION],
                     tools=TOOLS),
        ("Which weather?", "Paris", "22 degrees"),
    ),
    "assistant first": (
        Conversation([Message("assistant", "How may I help?"), QUESTION]),
        ("How may I help?", "Which weather?"),
    ),
}  # fmt: skip


TOLD_IN_WORDS = "You can call these tools:"
BEGUN = Conversation([QUESTION, Message("assistant", "Sure, the sky is ")])


@cache
def compiled() -> dict[str, ChatTemplate]:
    return {name: ChatTemplate(source, SPECIAL) for name, source in real_templates().items()}


def failures(check: Callable[[ChatTemplate], str]) -> dict[str, str]:
    """What `check` says of each template that it has something to say of."""
    found = {}
    for name, template in compiled().items():
        try:
            complaint = check(template)
        except InvalidRequest as error:
            complaint = error.message
        if complaint:
            found[name] = complaint
    return found


@pytest.mark.parametrize("task", TASKS)
def test_nothing_of_a_conversation_vanishes_in_any_real_template(task: str) -> None:
    conversation, wanted = TASKS[task]

    def lost(template: ChatTemplate) -> str:
        prompt = template.render(conversation)
        return ", ".join(text for text in wanted if text not in prompt)

    assert failures(lost) == {}


def _object(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    "schema",
    [
        _object(city={"type": ["string", "null"]}),
        _object(city={"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}),
        _object(city={"type": "array", "items": {"type": ["string", "null"]}}),
        _object(city={"type": "object", "properties": {"name": {"type": "string"}}}),
        _object(city={"type": "object"}),
        _object(city={"enum": ["Paris", "Rome"]}),
        _object(city={"type": "string", "description": None}),
        _object(city=True),
        {"properties": {"city": {"type": "string"}}, "required": None},
        {"type": "object", "description": "Takes nothing."},
    ],
    ids=json.dumps,
)
def test_a_tool_is_shown_as_the_template_shows_tools_whatever_its_schema(
    schema: dict[str, object],
) -> None:
    conversation = Conversation([QUESTION], tools=[Tool("get_time", "", json.dumps(schema))])

    def as_text(template: ChatTemplate) -> str:
        prompt = template.render(conversation)
        if "get_time" not in prompt or ("city" in str(schema) and "city" not in prompt):
            return prompt
        return prompt if template.traits.takes_tools and TOLD_IN_WORDS in prompt else ""

    assert failures(as_text) == {}


def test_an_assistants_message_at_the_end_is_gone_on_with_in_any_real_template() -> None:
    def wrong(template: ChatTemplate) -> str:
        prompt = template.render(BEGUN)
        return "" if prompt.endswith("Sure, the sky is ") else prompt[-60:]

    assert failures(wrong) == {}


def test_a_message_that_is_not_to_be_gone_on_with_is_ended() -> None:
    begun = [QUESTION, Message("assistant", "Sure, ")]
    closed = Conversation(begun, template_kwargs={"add_generation_prompt": True})
    template = compiled()["Qwen-Qwen2.5-7B-Instruct"]
    assert template.render(closed).endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_ids_have_the_form_that_the_template_wants() -> None:
    conversation = TASKS["two calls"][0]
    template = compiled()["mistralai-Mistral-Nemo-Instruct-2407"]
    prompt = template.render(conversation)
    assert CALLED.id not in prompt
    # Call and result still belong together.
    ids = [part[1:10] for part in prompt.replace('"call_id": ', '"id": ').split('"id": ')[1:]]
    assert ids[:2] == ids[2:]
    assert all(len(each) == 9 and each.isalnum() for each in ids)
