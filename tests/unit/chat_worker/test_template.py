"""Model templates: they see what they see in transformers, and their failures are clear errors."""

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
        "    {% if m.content == 'x' %}{% continue %}{% endif %}\n"
        "[{{ m['role'] }}] {{ m.content | trim }}{{ eos_token }}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    messages = [Message("system", "be good"), Message("user", "x"), Message("user", " hi ")]
    assert render(source, messages) == "<s>[system] be good</s>\n[user] hi</s>\n[assistant]"


def test_tojson_keeps_unicode_and_html_as_transformers_does() -> None:
    assert render("{{ messages[0].content | tojson }}", [Message("user", "<é>&'")]) == '"<é>&\'"'


CALLING = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}|{% endfor %}"
    "{{ tools | tojson if tools }}"
)


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("", "{}"),
        ("{}", "{}"),
        ('{"a": 1}', '{"a": 1}'),
        ('{"a": "x', '{"a": "x"}'),
        ('"{\\"a\\": 1}"', '{"a": 1}'),
        ("no JSON", '{"input": "no JSON"}'),
        ("[1]", '{"input": [1]}'),
    ],
)
def test_arguments_of_calls_reach_the_template_as_objects(written: str, seen: str) -> None:
    called = Message("assistant", tool_calls=[ToolCall("1", "f", written)])
    assert render(CALLING, [*HELLO, called]) == f"user: hello|assistant: f{seen}|"


def test_developer_messages_are_system_messages_to_a_template() -> None:
    assert render(CALLING, [Message("developer", "x"), *HELLO]) == "system: x|user: hello|"


def test_what_templates_of_real_models_use_works() -> None:
    source = (
        "{% set ns = namespace(seen=[]) %}{% set next = cycler('a', 'b') %}"
        "{% set comma = joiner() %}"
        "{% for m in messages %}{{ ns.seen.append(m.content) or '' }}{{ comma() }}{{ next.next() }}"
        "{% endfor %}"
        "{{ (messages | map(attribute='content')) | join('+') }}"
        "{{ ns.seen | batch(1) | list | length }}{{ 'a\nb' | indent(2, first=True) }}"
        "{{ (messages | map(attribute='role')) | tojson }}"
    )
    said = render(source, [*HELLO, Message("assistant", "x"), Message("user", "y")])
    assert said == 'a, b, ahello+x+y3  a\n  b["user", "assistant", "user"]'


def test_texts_are_joined_by_the_method_as_by_the_filter() -> None:
    source = "{{ ', '.join(messages | map(attribute='role')) }}"
    said = render(source, [*HELLO, Message("assistant", "x"), *HELLO])
    assert said == "user, assistant, user"


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
