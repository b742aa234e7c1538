"""The filters that chat templates use, within bounds."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2.exceptions import SecurityError

from chat_worker.text.render_limits import charge_chars, charge_text_of, charged_result

MAX_INDENT, MAX_COLUMNS = 16, 1000
# Whatever these are given, they may make a text of all of it.
READING_FILTERS = (
    *("abs", "capitalize", "e", "escape", "float", "indent", "int", "join", "lower", "replace"),
    *("round", "safe", "string", "striptags", "title", "tojson", "trim", "upper", "wordcount"),
)
# These compare what they are given.
COMPARING_FILTERS = ("dictsort", "groupby", "max", "min", "sort", "unique")
OTHER_FILTERS = (
    *("attr", "batch", "count", "d", "default", "first", "items", "last", "length", "list", "map"),
    *("reject", "rejectattr", "reverse", "select", "selectattr", "slice", "sum"),
)
Filter = Callable[..., Any]


def bounded_filters(original: Mapping[str, Filter]) -> dict[str, Filter]:
    """
    Args:
        original: Jinja's own.
    """
    changed: dict[str, Filter] = {
        **original,
        "tojson": _tojson,
        "indent": _narrow(original["indent"]),
        "slice": _narrow(original["slice"]),
        "batch": _narrow(original["batch"]),
        "replace": _replace,
        "join": _join,
        "sum": _sum_of_numbers(original["sum"]),
    }
    bounded = {name: changed[name] for name in OTHER_FILTERS}
    bounded |= {name: reading_all(changed[name]) for name in READING_FILTERS}
    bounded |= {name: _listing(reading_all(changed[name])) for name in COMPARING_FILTERS}
    return {name: _charged(each) for name, each in bounded.items()}


def reading_all(original: Filter) -> Filter:
    """`original`, which may read all that its arguments hold: this is charged before."""

    @functools.wraps(original)
    def charged(*args: Any, **kwargs: Any) -> Any:
        for each in (*args, *kwargs.values()):
            charge_text_of(each)
        return original(*args, **kwargs)

    return charged


def _listing(original: Filter) -> Filter:
    """`original`, which gets the items of a filter such as `map` as a list, so that they count."""

    @functools.wraps(original)
    def listed(*args: Any, **kwargs: Any) -> Any:
        return original(*(list(a) if isinstance(a, Iterator) else a for a in args), **kwargs)

    return listed


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter as transformers defines it: no HTML escaping, non-ASCII characters as they are."""
    if indent is not None and indent > MAX_INDENT:
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


def _charged(original: Filter) -> Filter:
    @functools.wraps(original)
    def charged(*args: Any, **kwargs: Any) -> Any:
        return charged_result(original(*args, **kwargs))

    return charged


def _sum_of_numbers(original: Filter) -> Filter:
    @functools.wraps(original)
    def numbers(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, list | tuple) for each in (*args[2:], *kwargs.values())):
            raise SecurityError("a sum of lists")
        return original(*args, **kwargs)

    return numbers


def _narrow(original: Filter) -> Filter:
    @functools.wraps(original)
    def narrow(value: Any, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, int) and each > MAX_COLUMNS for each in (*args, *kwargs.values())):
            raise SecurityError("width too large")
        return original(value, *args, **kwargs)

    return narrow


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    whole = str(text)
    charge_chars(len(whole) + whole.count(old) * len(new))
    return whole.replace(old, new, -1 if count is None else count)


def _join(values: Any, separator: str = "", attribute: str | None = None) -> str:
    shown = [v if attribute is None else v[attribute] for v in values]
    charge_text_of(shown)
    charge_chars(len(shown) * len(separator))
    return separator.join(map(str, shown))
