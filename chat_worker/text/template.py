"""Renders a model's own chat template, which is a program by a stranger, within bounds.

Jinja's sandbox keeps it from Python's insides. Here are also bounded: time (the rendering thread
is interrupted), the size of every intermediate text, and the filters, to those that chat
templates use. What remains is at worst a failed request in a process that runs this model only.
"""

import ctypes
import functools
import json
import re
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from chat_worker.messages import Message
from protos.errors import InvalidRequest

LIMIT_S = 2.0
MAX_OUTPUT_CHARS = 16 * 1024 * 1024
MAX_WORK_CHARS = 16 * 1024 * 1024
MAX_TOTAL_CHARS = 256 * 1024 * 1024
MAX_WIDTH = 10_000
FILTERS = (
    "abs|attr|capitalize|count|d|default|dictsort|e|escape|first|float|groupby|indent|int|items|"
    "join|last|length|list|lower|map|max|min|reject|rejectattr|replace|reverse|round|safe|select|"
    "selectattr|slice|sort|string|striptags|sum|title|tojson|trim|unique|upper|wordcount"
).split("|")


class RenderTimeout(BaseException):
    """Raised inside a rendering thread that takes too long; no template can catch it."""


class Refusal(Exception):
    """The template called `raise_exception`."""


class ChatTemplate:
    """A compiled template.

    Args:
        source: Jinja source, from the model's files.
        special_texts: such as {"bos_token": "<s>"}.
    Raises:
        jinja2.TemplateError: the source is not valid Jinja.
    """

    def __init__(self, source: str, special_texts: dict[str, str]) -> None:
        self._template = _environment().from_string(source)
        self._special_texts = special_texts

    def render(self, messages: list[Message], kwargs: dict[str, str | bool | int | float]) -> str:
        """The prompt, ending where the assistant's answer begins.

        Raises:
            InvalidRequest: the template refuses these messages or takes too long over them.
        """
        variables: dict[str, Any] = {
            **kwargs,
            **self._special_texts,
            "messages": [_as_templates_expect(message) for message in messages],
            "add_generation_prompt": True,
            "tools": None,
            "documents": None,
        }
        return _within_limits(lambda: self._collect(variables))

    def _collect(self, variables: dict[str, Any]) -> str:
        pieces: list[str] = []
        n_chars = 0
        for piece in self._template.generate(variables):
            n_chars += len(piece)
            if n_chars > MAX_OUTPUT_CHARS:
                raise SecurityError("the template's output is too long")
            pieces.append(piece)
        return "".join(pieces)


def _within_limits(render: Callable[[], str]) -> str:
    """Run `render` on a thread of its own that is interrupted after `LIMIT_S`."""
    outcome: list[str | BaseException] = []

    def main() -> None:
        try:
            outcome.append(render())
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame; sorted below
            outcome.append(error)

    thread = threading.Thread(target=main, name="template", daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if not outcome:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(RenderTimeout)
        )
        raise InvalidRequest(
            "the model's chat template took too long over these messages", param="messages"
        )
    return _sorted_out(outcome[0])


def _sorted_out(outcome: str | BaseException) -> str:
    match outcome:
        case str(text):
            return text
        case Refusal() as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {str(error)[:300]}",
                param="messages",
            )
        case SecurityError() | MemoryError() | RecursionError() | OverflowError():
            raise InvalidRequest(
                "the model's chat template does what templates must not do", param="messages"
            )
        case _:
            # A template that fails on valid messages is the model's fault, not the client's;
            # most often it expects other roles or an order of turns.
            raise InvalidRequest(
                "the model's chat template fails on these messages "
                f"({type(outcome).__name__}); it may expect other roles or another order of turns",
                param="messages",
            ) from outcome


def _as_templates_expect(message: Message) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": message.content}
    if message.name:
        plain["name"] = message.name
    if message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        plain["reasoning_content"] = message.reasoning
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _parsed(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return plain


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


# The environment.


class _Generation(Extension):
    """`{% generation %}` marks the assistant's part for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's interface

    def parse(self, parser: Any) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


class _BoundedConcat(CodeGenerator):
    """`a ~ b` through a function that looks at the sizes."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - jinja2's name
        self.write("environment.bounded_concat((")
        for operand in node.nodes:
            self.visit(operand, frame)
            self.write(", ")
        self.write("))")


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _BoundedConcat
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "+":
            _check_size(_size(left) + _size(right))
        elif operator == "**" and (abs(left) > 1e6 or abs(right) > 64):
            raise SecurityError("power too large")
        elif operator == "%" and isinstance(left, str):
            _check_widths(left)
        return super().call_binop(context, operator, left, right)

    def bounded_concat(self, parts: tuple[Any, ...]) -> str:
        texts = [str(part) for part in parts]
        _check_size(sum(map(len, texts)))
        return "".join(texts)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str | bytes | list | tuple | dict):
            _check_method(owner, function.__name__, [*args, *kwargs.values()])
        return _spent(super().call(context, function, *args, **kwargs))


_spending = threading.local()  # each rendering has its own thread


def _spent(value: Any) -> Any:
    """`value`, its size charged to this rendering."""
    _check_size(_size(value))
    return value


def _check_size(n_chars: int) -> None:
    """Charge an intermediate text of this size before it is made."""
    _spending.total = getattr(_spending, "total", 0) + n_chars
    if n_chars > MAX_WORK_CHARS or _spending.total > MAX_TOTAL_CHARS:
        raise SecurityError("an intermediate text is too long")


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > 4096:
            raise SecurityError("a number too large")
    else:
        _check_size(max(_size(left) * _as_count(right), _size(right) * _as_count(left)))


METHODS_OF_COUNTS = frozenset(
    {"count", "find", "rfind", "index", "split", "rsplit", "startswith", "endswith", "get"}
)


def _check_method(owner: Any, name: str, args: list[Any]) -> None:
    if name in ("format", "format_map"):
        _check_widths(owner)
    elif name == "replace" and len(args) > 1:
        _check_size(len(owner) + owner.count(args[0]) * _size(args[1]))
    elif name == "join" and args:
        texts = [str(text) for text in args[0]]
        _check_size(sum(map(len, texts)) + len(texts) * _size(owner))
    elif name == "translate":
        raise SecurityError("translate is not offered")
    elif name not in METHODS_OF_COUNTS and any(
        isinstance(a, int) and abs(a) > MAX_WIDTH for a in args
    ):
        raise SecurityError(f"{name} with a large number")


def _check_widths(pattern: str) -> None:
    too_wide = re.search(r"[1-9]\d{4}", pattern)
    if too_wide or re.search(r"%[^a-zA-Z%]*\*|\{[^}]*\{", pattern):
        raise SecurityError("a format with a large width")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


def _as_count(value: Any) -> int:
    return max(int(value), 0) if isinstance(value, int) else 1


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        autoescape=False,
        extensions=[loopcontrols, _Generation],
    )
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    environment.filters.update(
        tojson=_tojson,
        indent=_narrow(environment.filters["indent"]),
        slice=_narrow(environment.filters["slice"]),
        replace=_bounded_replace,
        join=_bounded_join,
    )
    environment.filters = {name: _charged(f) for name, f in environment.filters.items()}
    environment.globals = {
        "range": environment.globals["range"],
        "dict": dict,
        "namespace": environment.globals["namespace"],
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
    }
    return environment


def _raise_exception(message: str = "") -> None:
    raise Refusal(message)


def _strftime_now(pattern: str) -> str:
    _check_widths(pattern)
    return datetime.now().strftime(pattern)  # noqa: DTZ005 - the user's own day, as templates mean it


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: no HTML escaping, non-ASCII as it is."""
    if indent is not None and indent > 16:
        raise SecurityError("indentation too wide")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _charged(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def charged(*args: Any, **kwargs: Any) -> Any:
        return _spent(original(*args, **kwargs))

    return charged


def _narrow(original: Callable[..., Any]) -> Callable[..., Any]:
    def narrow(value: Any, width: Any = 4, *args: Any) -> Any:
        if isinstance(width, int) and width > 1000:
            raise SecurityError("width too large")
        return original(value, width, *args)

    return narrow


def _bounded_replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    whole = str(text)
    _check_size(len(whole) + whole.count(old) * len(new))
    return whole.replace(old, new, -1 if count is None else count)


def _bounded_join(values: Any, separator: str = "", attribute: str | None = None) -> str:
    texts = [str(v if attribute is None else v[attribute]) for v in values]
    _check_size(sum(map(len, texts)) + len(texts) * len(separator))
    return separator.join(texts)
