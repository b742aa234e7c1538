"""A model without a usable template of its own chats all the same."""

from dataclasses import replace

import pytest

from chat_worker.backend import Backend
from chat_worker.backends.llama_cpp.load import load
from chat_worker.engine_process import usable_template
from chat_worker.pipe_messages import Conversation, LoadSpec, Message, Tool, ToolCall
from chat_worker.text.default_templates import CHATML, PLAIN, default_template
from chat_worker.text.template import ChatTemplate
from tests.unit.chat_worker.conftest import GUIDE

TALK = [Message("system", "Be brief."), Message("user", "Hi")]


def test_chatml_is_taken_where_the_vocabulary_has_its_marks() -> None:
    assert default_template(["<|im_start|>", "<|im_end|>", "<pad>"]) == ("chatml", CHATML)
    assert default_template(["<s>", "</s>"]) == ("plain", PLAIN)


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        (
            CHATML,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        (PLAIN, "System: Be brief.\n\nUser: Hi\n\nAssistant:"),
    ],
)
def test_it_ends_where_the_answer_begins(source: str, prompt: str) -> None:
    assert ChatTemplate(source, {}).render(Conversation(TALK)) == prompt


@pytest.mark.parametrize("source", [CHATML, PLAIN])
def test_nothing_of_tools_and_calls_vanishes(source: str) -> None:
    messages = [
        *TALK,
        Message("assistant", tool_calls=[ToolCall("1", "now", '{"zone": "UTC"}')]),
        Message("tool", "noon", tool_call_id="1"),
    ]
    prompt = ChatTemplate(source, {}).render(Conversation(messages, tools=[Tool("now")]))
    assert all(text in prompt for text in ("Be brief.", "Hi", "now", "UTC", "noon"))


@pytest.fixture(scope="module")
def backend() -> Backend:
    spec = LoadSpec(backend="llama.cpp", path=str(GUIDE), n_ctx=256, n_parallel=1)
    return load(spec, lambda _: None)


@pytest.mark.parametrize(("source", "why"), [(None, "has no"), ("{% for %}", "not valid Jinja")])
def test_a_template_that_cannot_be_used_is_replaced_and_said(
    backend: Backend, capsys: pytest.CaptureFixture[str], source: str | None, why: str
) -> None:
    used = usable_template(replace(backend, template=source))
    assert (used.source, used.kind) == (CHATML, "chatml")
    assert why in capsys.readouterr().err
