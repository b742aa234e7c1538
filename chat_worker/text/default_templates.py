"""Chat templates for models that have none, or none that is valid Jinja.

Most models without a template were trained on ChatML, and their vocabulary has its marks. For the
others, each message begins with the speaker's name, as in texts that base models were trained on.
"""

from collections.abc import Collection
from typing import Literal

# Which template renders a model's conversations.
TemplateKind = Literal["own", "configured", "chatml", "plain"]
CHATML_MARKS = ("<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = (
    "{% for message in messages %}"
    "{{ message.role | capitalize }}: {{ message.content }}\n\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def default_template(control_strings: Collection[str]) -> tuple[TemplateKind, str]:
    """ChatML if the vocabulary has its marks as control tokens, else a plain template."""
    has_marks = all(mark in control_strings for mark in CHATML_MARKS)
    return ("chatml", CHATML) if has_marks else ("plain", PLAIN)
