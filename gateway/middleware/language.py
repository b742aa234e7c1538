"""In which language a client is told of errors."""

from typing import Literal, get_args

from starlette.types import Scope

from gateway.middleware.request_context import context_of, header

Language = Literal["en", "zh-TW"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
MAX_RANGES = 32
_TRADITIONAL = ("zh-tw", "zh-hant", "zh-hk", "zh-mo")


def language_of(scope: Scope) -> Language:
    """The server's own if it is set to one, else what the request accepts."""
    fixed = context_of(scope).error_language
    found = next((language for language in LANGUAGES if language == fixed), None)
    return found or accepted(header(scope, b"accept-language") or "")


def accepted(accept_language: str) -> Language:
    """The best of what a client accepts; English if that is nothing we have.

    To readers of Simplified Chinese English comes first, if they accept it at all.
    """
    tags = _by_preference(accept_language)
    simplified = any(_begins(tag, "zh") and not _reads_traditional(tag) for tag in tags)
    english = any(_begins(tag, "en") for tag in tags)
    for tag in tags:
        if _begins(tag, "en") or tag == "*":
            return "en"
        if _reads_traditional(tag) and not (tag == "zh" and simplified and english):
            return "zh-TW"
    return "en"


def _reads_traditional(tag: str) -> bool:
    return tag == "zh" or any(_begins(tag, known) for known in _TRADITIONAL)


def _begins(tag: str, language: str) -> bool:
    return f"{tag}-".startswith(f"{language}-")


def _by_preference(accept_language: str) -> list[str]:
    """Tags in lower case, the most wanted first; none that is refused or not understood."""
    weighted = []
    for part in accept_language.split(",")[:MAX_RANGES]:
        tag, _, parameter = part.partition(";")
        weight = _weight(parameter)
        if tag.strip() and weight > 0:
            weighted.append((weight, tag.strip().lower()))
    return [tag for _, tag in sorted(weighted, key=lambda pair: -pair[0])]


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    digits = value.strip().replace(".", "", 1)
    known = name.strip().lower() == "q" and digits.isascii() and digits.isdecimal()
    return min(float(value), 1.0) if known and len(digits) < 8 else 0.0
