"""In which language a client gets errors."""

from starlette.types import Scope

from gateway.localize import ENGLISH, Language, languages
from gateway.middleware.request_context import context_of, header

MAX_RANGES = 32


def language_of(scope: Scope) -> Language:
    """The language of ERROR_LANGUAGE if that is set to one, else what the request accepts."""
    fixed = languages().get(context_of(scope).error_language)
    return fixed or accepted(header(scope, b"accept-language") or "")


def accepted(accept_language: str) -> Language:
    """The language that a client prefers of those that exist here; English if it accepts none.

    Readers of another variant of a language than ours (Simplified Chinese) get English, if they
    accept it.
    """
    tags = _by_preference(accept_language)
    reads_english = any(_reads(tag, ENGLISH) for tag in tags)
    for tag in tags:
        if tag == "*":
            return ENGLISH
        for language in languages().values():
            if _reads(tag, language):
                return language
            if tag == _primary(language) and not (reads_english and _other_variant(tags, language)):
                return language
    return ENGLISH


def _reads(tag: str, language: Language) -> bool:
    return any(_begins(tag, reader) for reader in language.readers)


def _primary(language: Language) -> str:
    return language.tag.lower().partition("-")[0]


def _other_variant(tags: list[str], language: Language) -> bool:
    primary = _primary(language)
    others = (tag for tag in tags if tag != primary and _begins(tag, primary))
    return any(not _reads(tag, language) for tag in others)


def _begins(tag: str, language: str) -> bool:
    return f"{tag}-".startswith(f"{language}-")


def _by_preference(accept_language: str) -> list[str]:
    """Tags in lower case, the most preferred first, without refused and invalid ones."""
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
