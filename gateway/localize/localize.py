"""An error's message and suggestions in a language."""

import contextlib
import functools
import re
from typing import Any, NamedTuple

import orjson

from common.errors import ServingError
from common.sizes import mib
from gateway.localize import zh_tw
from gateway.middleware.language import Language


class Localized(NamedTuple):
    message: str
    suggestions: tuple[str, ...]


def localized(error: ServingError, language: Language) -> Localized:
    """What has no translation stays English."""
    if language == "en":
        return Localized(error.message, error.suggestions)
    return Localized(_message(error), tuple(map(localized_suggestion, error.suggestions)))


def of_code(code: str, detail: str, language: Language) -> str:
    """A message that says in English what exactly is wrong: names and values are English anyway."""
    return detail if language == "en" else f"{zh_tw.CODES[code]}：{detail}"


def localized_suggestion(english: str) -> str:
    for pattern, translation in _suggestions():
        if (match := pattern.fullmatch(english)) is not None:
            return translation.format(*match.groups())
    return english


def _message(error: ServingError) -> str:
    facts = error.metadata
    reason = facts.get("reason") or facts.get("cause", "")
    if reason not in zh_tw.REASONS:
        return of_code(error.code, error.message, "zh-TW")
    numbers = [
        text.format(mib(int(facts[name])))
        for name, text in zh_tw.NUMBERS.items()
        if _is_informative(facts, name)
    ]
    if holders := _holders(facts.get("holds", "")):
        numbers.append(zh_tw.HOLDERS.format("、".join(holders)))
    message = zh_tw.REASONS[reason]
    return f"{message}：{'，'.join(numbers)}" if numbers else message


def _is_informative(facts: dict[str, str], name: str) -> bool:
    """Whether that number is there and says more than the others."""
    if name == "least_bytes" and facts.get(name) == facts.get("needed_bytes"):
        return False
    n_bytes = facts.get(name, "")
    return n_bytes.isdecimal() and (n_bytes != "0" or name == "available_bytes")


def _holders(encoded: str) -> list[str]:
    """Models that hold memory, each with its bytes and whether it is pinned."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(orjson.JSONDecodeError):
        found = orjson.loads(encoded)
    return [
        f"{holder['model']} ({mib(int(holder['bytes']))}"
        + (f"，{zh_tw.PINNED})" if holder.get("pinned") else ")")
        for holder in found
    ]


@functools.cache
def _suggestions() -> list[tuple[re.Pattern[str], str]]:
    """The ones that fix most of the text first."""
    longest_first = sorted(zh_tw.SUGGESTIONS.items(), key=lambda pair: -len(pair[0]))
    exact_first = sorted(longest_first, key=lambda pair: "{}" in pair[0])
    return [
        (re.compile(re.escape(english).replace(r"\{\}", "(.+)"), re.DOTALL), translation)
        for english, translation in exact_first
    ]
