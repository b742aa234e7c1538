"""Which real chat template shows what of a conversation, and how."""

from typing import cast

from chat_worker.backend import Tokenizer
from chat_worker.text.template import ChatTemplate
from chat_worker.text.tool_calls.grammars import CallGrammars
from chat_worker.text.tool_calls.notation import PLAIN, notation_of
from common.errors import InvalidRequest
from tests.compatibility.page import table
from tests.unit.chat_worker.test_real_templates import BEGUN, TASKS, compiled

YES = "yes"
HEAD = ("template", *TASKS, "assistant last", "calls held")


def templates() -> str:
    rows = [[name, *_row(template)] for name, template in compiled().items()]
    whole = sum(all(cell.startswith(YES) for cell in row[1:]) for row in rows)
    count = f"{whole} of {len(rows)} templates pass all tasks.\n\n"
    return count + table(HEAD, rows)


def _row(template: ChatTemplate) -> list[str]:
    found = [_shown(template, task) for task in TASKS]
    prompt = template.render(BEGUN)
    ends = prompt.endswith(BEGUN.messages[-1].content)
    return [*found, YES if ends else f"no: {prompt[-20:]!r}", _held(template)]


def _shown(template: ChatTemplate, task: str) -> str:
    conversation, wanted = TASKS[task]
    try:
        prompt = template.render(conversation)
    except InvalidRequest as error:
        return f"no: {error.message}"
    if lost := [text for text in wanted if text not in prompt]:
        return f"no: {', '.join(lost)}"
    traits, how = template.traits, ""
    roles = {message.role for message in conversation.messages}
    if "system" in roles and not traits.takes_system:
        how = ", with the question"
    elif "developer" in roles and not traits.takes_late_system:
        how = ", moved"
    elif not (traits.takes_tools if task == "tools" else traits.takes_calls or "tool" not in roles):
        how = ", as text"
    elif task == "two calls" and not traits.takes_parallel_calls:
        how = ", one by one"
    return YES + how


def _held(template: ChatTemplate) -> str:
    notation = notation_of(*template.traits.written)
    begins = CallGrammars(notation, cast(Tokenizer, _NoControl())).beginnings(["get_weather"])
    if not begins:
        return "no: nothing begins them"
    return YES if notation is not PLAIN else f"{YES}, as JSON"


class _NoControl:
    """The part of a tokenizer that a notation's beginning needs."""

    control_strings: tuple[str, ...] = ()
