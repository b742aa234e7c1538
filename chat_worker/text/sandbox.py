"""Jinja's sandbox with further bounds: a template cannot create texts of unlimited size.

Jinja's sandbox denies access to Python's internals. It does not stop `'a' * 2_000_000_000`, a
format with a huge width, or a text doubled forty times. Here, every operation that makes a text, a
list or a number larger checks the sizes first, each call and each round of a loop looks at the time
(`render_limits.py`), and only the filters that chat templates use exist (`sandbox_filters.py`).
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from chat_worker.text.render_limits import (
    CONTAINERS,
    ELEMENT_CHARS,
    charge_chars,
    charge_text_of,
    charge_time,
    charged_result,
    size_of,
)
from chat_worker.text.sandbox_filters import bounded_filters, reading_all

MAX_WIDTH = 10_000
MAX_NUMBER_BITS = 4096
COMPARISONS = (
    *("==", "eq", "equalto", "!=", "ne", "in", "<", "lt", "lessthan", "<=", "le"),
    *(">", "gt", "greaterthan", ">=", "ge"),
)
# No template can name these.
CONCAT, ROUND, COMPARED = "~", "~round", "~compared"


class Refusal(Exception):
    """The template called `raise_exception`."""


def bounded_template(source: str) -> Template:
    """A model's template, compiled to run within bounds.

    Raises:
        jinja2.TemplateError: `source` is not valid Jinja.
    """
    environment = _bounded_environment()
    return environment.from_string(_Bounded().visit(environment.parse(source)))


def _bounded_environment() -> "_Environment":
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        autoescape=False,
        optimized=False,  # nothing is computed at compile time, where no time limit applies
        finalize=_shown,
        extensions=[loopcontrols, _GenerationTag],
    )
    environment.filters = bounded_filters(environment.filters)
    tests: dict[str, Any] = dict(environment.tests)
    environment.tests = tests | {name: _comparing(tests[name]) for name in COMPARISONS}
    environment.filters |= {CONCAT: _concat, ROUND: _next_round, COMPARED: _compared}
    environment.globals = {
        "range": environment.globals["range"],
        "dict": dict,
        "namespace": environment.globals["namespace"],
        "cycler": environment.globals["cycler"],
        "joiner": environment.globals["joiner"],
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
    }
    return environment


class _GenerationTag(Extension):
    """`{% generation %}` marks the assistant's part for training; here it has no effect."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's interface

    def parse(self, parser: Any) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


class _Bounded(NodeTransformer):
    """Has `a ~ b`, plain text and comparisons charge sizes, and each round of a loop the time.

    Jinja itself lets the environment see the rest.
    """

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Const:  # noqa: N802 - jinja2's
        return nodes.Const(node.data)  # which `_shown` sees

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        return nodes.Filter(nodes.Tuple(node.nodes, "load"), CONCAT, [], [], None, None)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        compared: list[Any] = [node, *node.ops]
        # Of two values, a list differs from a text or a number at first sight.
        if len(compared) > 2 or not any(isinstance(each.expr, nodes.Const) for each in compared):
            for each in compared:
                each.expr = nodes.Filter(each.expr, COMPARED, [], [], None, None)
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        look = nodes.Filter(nodes.Const(None), ROUND, [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(look))
        return node


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # Templates append to lists of their own; the variables are created anew for each rendering.
        if isinstance(obj, list) and attr in ("append", "pop"):
            return True
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's own method behind `'…'.format`, which hides from `call` what it belongs to."""
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None
        _check_widths(value.__self__)
        return reading_all(formatted)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "+":
            charge_chars(size_of(left) + size_of(right))
        elif operator == "**" and (abs(left) > 1e6 or abs(right) > 64):
            raise SecurityError("power too large")
        elif operator == "%" and isinstance(left, str):
            _check_widths(left)
            charge_text_of(right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str | bytes | list | tuple | dict):
            if function.__name__ == "join" and args:
                # What a filter such as `map` returns can be read only once.
                args = (list(args[0]),)
            _check_method(owner, function.__name__, [*args, *kwargs.values()])
        return charged_result(super().call(context, function, *args, **kwargs))


@pass_context  # with it Jinja shows nothing at compile time
def _shown(_: Any, value: Any) -> Any:
    """What `{{ value }}` and plain text show, charged before it is made."""
    charge_text_of(value)
    return value


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MAX_NUMBER_BITS:
            raise SecurityError("a number too large")
    else:
        charge_chars(max(size_of(left) * _as_count(right), size_of(right) * _as_count(left)))


METHODS_OF_COUNTS = frozenset(
    {"count", "find", "rfind", "index", "split", "rsplit", "startswith", "endswith", "get"}
)


def _check_method(owner: Any, name: str, args: list[Any]) -> None:
    if name == "replace" and len(args) > 1:
        charge_chars(len(owner) + owner.count(args[0]) * size_of(args[1]))
    elif name == "join" and args:
        charge_text_of(args[0])
        charge_chars(len(args[0]) * size_of(owner))
    elif name in ("index", "count") and isinstance(owner, list | tuple):
        # These compare.
        charge_text_of(owner)
    elif name == "append":
        charge_chars(ELEMENT_CHARS)
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


def _as_count(value: Any) -> int:
    return max(int(value), 0) if isinstance(value, int) else 1


def _raise_exception(message: str = "") -> None:
    charge_text_of(message)
    raise Refusal(message)


def _strftime_now(pattern: str) -> str:
    _check_widths(pattern)
    return datetime.now().strftime(pattern)  # noqa: DTZ005 - the user's own day, as templates mean it


def _next_round(_: None) -> None:
    charge_time()


def _compared(value: Any) -> Any:
    """Two lists that each hold another one many times take for ever to compare."""
    if isinstance(value, CONTAINERS):
        charge_text_of(value)
    return value


def _comparing(test: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda value, other: test(_compared(value), _compared(other))


def _concat(parts: tuple[Any, ...]) -> str:
    charge_text_of(parts)
    return "".join(map(str, parts))
