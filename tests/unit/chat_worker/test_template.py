"""Model templates: what they may do as transformers lets them, and what they may not."""

import pytest
from jinja2 import TemplateError

from chat_worker.pipe_messages import Conversation, Message, ToolCall
from chat_worker.text.template import ChatTemplate
from common.errors import InvalidRequest

HELLO = [Message("user", "hello")]


def render(source: str, messages: list[Message] | None = None) -> str:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    return template.render(Conversation(messages or HELLO))


def test_a_template_sees_messages_specials_and_the_generation_prompt() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}\n"
        "    {% if m.role == 'tool' %}{% continue %}{% endif %}\n"
        "[{{ m['role'] }}] {{ m.content | trim }}{{ eos_token }}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    messages = [Message("system", "be good"), Message("tool", "x"), Message("user", " hi ")]
    assert render(source, messages) == "<s>[system] be good</s>\n[user] hi</s>\n[assistant]"


def test_tojson_keeps_unicode_and_html_as_transformers_does() -> None:
    assert render("{{ messages[0].content | tojson }}", [Message("user", "<é>&'")]) == '"<é>&\'"'


@pytest.mark.parametrize(("written", "seen"), [("", "{}"), ("{}", "{}"), ("no JSON", '"no JSON"')])
def test_arguments_that_are_no_object_reach_the_template_too(written: str, seen: str) -> None:
    source = "{% for c in messages[0].tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}"
    called = Message("assistant", tool_calls=[ToolCall("1", "f", written)])
    assert ChatTemplate(source, {}).render(Conversation([called])) == seen


def test_arguments_of_tool_calls_reach_the_template_as_objects() -> None:
    call = ToolCall("1", "add", '{"a": 1}')
    messages = [Message("assistant", "", tool_calls=[call])]
    source = "{% for c in messages[0].tool_calls %}{{ c.function.arguments.a }}{% endfor %}"
    assert render(source, messages) == "1"


def test_developer_messages_are_system_messages_to_a_template() -> None:
    assert render("{{ messages[0].role }}", [Message("developer", "x")]) == "system"


def test_a_template_that_refuses_gives_its_reason() -> None:
    with pytest.raises(InvalidRequest, match="roles must alternate") as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert caught.value.param == "messages"


def test_a_template_that_fails_is_a_clear_error() -> None:
    with pytest.raises(InvalidRequest, match="UndefinedError"):
        render("{{ messages[7].content.foo }}")


def test_a_template_that_is_not_jinja_is_noticed_when_it_is_compiled() -> None:
    with pytest.raises(TemplateError):
        ChatTemplate("{% for %}", {})


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 2000000000 }}",
        "{{ 2000000000 * 'a' }}",
        "{{ [0] * 2000000000 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '{:999999999d}'.format(1) }}",
        "{{ '{:{w}d}'.format(1, w=999999999) }}",
        "{{ 'a'.ljust(999999999) }}",
        "{{ 'a\t'.expandtabs(tabsize=999999999) }}",
        "{{ 9 ** 999999999 }}",
        "{{ 'a'|center(999999999) }}",
        "{{ ('a' * 1000000).replace('a', 'a' * 1000000) }}",
        "{{ ('a' * 1000000)|replace('a', 'a' * 1000000) }}",
        "{{ ('a' * 1000000).join('b' * 1000000) }}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}"
        "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}"
        "{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
        "{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=3) %}{% for i in range(60) %}"
        "{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{% for i in range(999999999) %}{% endfor %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ strftime_now('%99999999d') }}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{{ {'a': 1}|tojson(indent=999999999) }}",
        "{{ 'a\nb'|indent(999999999) }}",
    ],
)
def test_a_hostile_template_fails_its_request_and_nothing_else(source: str) -> None:
    with pytest.raises((InvalidRequest, TemplateError)):
        render(source)


@pytest.mark.parametrize(
    "loop",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_takes_too_long_is_stopped(loop: str) -> None:
    with pytest.raises(InvalidRequest):
        render(loop)
