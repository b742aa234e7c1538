"""Jinja's sandbox with further bounds: a template cannot create texts of unlimited size.

Jinja's sandbox denies access to Python's internals. It does not stop `'a' * 2_000_000_000`, a
format with a huge width, or a text doubled forty times. Here, every operation that makes a text, a
list or a number larger checks the sizes first, each call and each round of a loop looks at the time
(`render_limits.py`), and only the filters that chat templates use exist.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from chat_worker.text.render_limits import ELEMENT_CHARS, charge_chars, charge_text_of, charge_time

MAX_WIDTH = 10_000
MAX_NUMBER_BITS = 4096
# Whatever these are given, they may make a text of all of it.
TEXT_FILTERS = (
    *("abs", "capitalize", "e", "escape", "float", "indent", "int", "join", "lower", "replace"),
    *("round", "safe", "string", "striptags", "title", "tojson", "trim", "upper", "wordcount"),
)
OTHER_FILTERS = (
    *("attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "last"),
    *("length", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select"),
    *("selectattr", "slice", "sort", "sum", "unique"),
)
# No template can name these.
CONCAT = "~"
ROUND = "~round"


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
    original = environment.filters | {
        "tojson": _tojson,
        "indent": _narrow(environment.filters["indent"]),
        "slice": _narrow(environment.filters["slice"]),
        "batch": _narrow(environment.filters["batch"]),
        "replace": _bounded_replace,
        "join": _bounded_join,
        "sum": _sum_of_numbers(environment.filters["sum"]),
    }
    environment.filters = {name: _charged(original[name]) for name in OTHER_FILTERS}
    environment.filters |= {name: _charged(_of_text(original[name])) for name in TEXT_FILTERS}
    environment.filters[CONCAT] = _bounded_concat
    environment.filters[ROUND] = _next_round
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
    """Has `a ~ b` and plain text charge sizes, and each round of a loop the time.

    Jinja itself lets the environment see the rest.
    """

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Const:  # noqa: N802 - jinja2's
        return nodes.Const(node.data)  # which `_shown` sees

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        return nodes.Filter(nodes.Tuple(node.nodes, "load"), CONCAT, [], [], None, None)

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
        return _of_text(formatted)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "+":
            charge_chars(_size(left) + _size(right))
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
        return _spent(super().call(context, function, *args, **kwargs))


@pass_context  # with it Jinja shows nothing at compile time
def _shown(_: Any, value: Any) -> Any:
    """What `{{ value }}` and plain text show, charged before it is made."""
    charge_text_of(value)
    return value


def _spent(value: Any) -> Any:
    """Charge the time so far and the size of `value` to this rendering, and return it."""
    charge_time()
    charge_chars(_size(value))
    return value


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MAX_NUMBER_BITS:
            raise SecurityError("a number too large")
    else:
        charge_chars(max(_size(left) * _as_count(right), _size(right) * _as_count(left)))


METHODS_OF_COUNTS = frozenset(
    {"count", "find", "rfind", "index", "split", "rsplit", "startswith", "endswith", "get"}
)


def _check_method(owner: Any, name: str, args: list[Any]) -> None:
    if name == "replace" and len(args) > 1:
        charge_chars(len(owner) + owner.count(args[0]) * _size(args[1]))
    elif name == "join" and args:
        charge_text_of(args[0])
        charge_chars(len(args[0]) * _size(owner))
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


def _size(value: Any) -> int:
    if isinstance(value, list | tuple):
        return len(value) * ELEMENT_CHARS
    return len(value) if isinstance(value, str | bytes) else 0


def _as_count(value: Any) -> int:
    return max(int(value), 0) if isinstance(value, int) else 1


def _raise_exception(message: str = "") -> None:
    charge_text_of(message)
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
    """The filter as transformers defines it: no HTML escaping, non-ASCII characters as they are."""
    if indent is not None and indent > 16:
        raise SecurityError("indentation too wide")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )


def _listed(value: Any) -> list[Any]:
    """The items of a value, which may be the generator of a filter such as `map`."""
    if isinstance(value, Iterator):
        listed = list(value)
        charge_text_of(listed)
        return listed
    raise TypeError(f"{type(value).__name__} is no JSON")


def _charged(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def charged(*args: Any, **kwargs: Any) -> Any:
        return _spent(original(*args, **kwargs))

    return charged


def _of_text(original: Callable[..., Any]) -> Callable[..., Any]:
    """`original`, where each argument may become a text as a whole."""

    @functools.wraps(original)
    def charged(*args: Any, **kwargs: Any) -> Any:
        for each in (*args, *kwargs.values()):
            charge_text_of(each)
        return original(*args, **kwargs)

    return charged


def _sum_of_numbers(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def numbers(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, list | tuple) for each in (*args[2:], *kwargs.values())):
            raise SecurityError("a sum of lists")
        return original(*args, **kwargs)

    return numbers


def _narrow(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def narrow(value: Any, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, int) and each > 1000 for each in (*args, *kwargs.values())):
            raise SecurityError("width too large")
        return original(value, *args, **kwargs)

    return narrow


def _next_round(_: None) -> None:
    charge_time()


def _bounded_concat(parts: tuple[Any, ...]) -> str:
    charge_text_of(parts)
    return "".join(map(str, parts))


def _bounded_replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    whole = str(text)
    charge_chars(len(whole) + whole.count(old) * len(new))
    return whole.replace(old, new, -1 if count is None else count)


def _bounded_join(values: Any, separator: str = "", attribute: str | None = None) -> str:
    shown = [v if attribute is None else v[attribute] for v in values]
    charge_text_of(shown)
    charge_chars(len(shown) * len(separator))
    return separator.join(map(str, shown))
