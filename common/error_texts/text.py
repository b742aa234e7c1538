"""`ErrorText`: a text for clients, made from a message id and named fields."""

from collections.abc import Collection, Mapping
from functools import cache
from string import Formatter

from common.error_texts import (
    en_answers,
    en_downloads,
    en_requests,
    en_service,
    en_suggestions,
)

MAX_FIELD_CHARS = 2000
MAX_ECHO_CHARS = 64

ENGLISH: dict[str, str] = {
    **en_requests.MESSAGES,
    **en_answers.MESSAGES,
    **en_service.MESSAGES,
    **en_downloads.MESSAGES,
    **en_suggestions.MESSAGES,
}


class UnknownErrorText(LookupError):
    """The catalogue has no message with this id and these fields."""


class ErrorText(str):
    """An English text that knows its message id and fields, so that it can be translated.

    Wherever a text is expected, a plain `str` comes from elsewhere (a library, a plugin, a worker
    of another version) and is shown in every language as it is. `str(text)` is a plain English
    string, for libraries that do not accept a subclass.

    Args:
        id: of a message in the catalogue.
        fields: the fields of its template; a value may be an `ErrorText` itself.
    Raises:
        UnknownErrorText: there is no such message, or its template has other fields.
    """

    id: str
    fields: dict[str, str]

    def __new__(cls, id: str, /, **fields: object) -> "ErrorText":
        if id not in ENGLISH or fields_of(ENGLISH[id]) != fields.keys():
            raise UnknownErrorText(f"{id} with {', '.join(sorted(fields)) or 'no fields'}")
        values = {name: _field_text(value) for name, value in fields.items()}
        text = super().__new__(cls, ENGLISH[id].format_map(values))
        text.id, text.fields = id, values
        return text

    def translated(self, messages: Mapping[str, str]) -> str:
        """The text from another language's templates; in English where that language has none."""
        return messages.get(self.id, ENGLISH[self.id]).format_map(
            {name: translated(value, messages) for name, value in self.fields.items()}
        )


def translated(text: str, messages: Mapping[str, str]) -> str:
    """`text` in another language; a text from elsewhere stays as it is."""
    return text.translated(messages) if isinstance(text, ErrorText) else text


def known_text(id: str, fields: Mapping[str, object]) -> ErrorText | None:
    """The `ErrorText`; None if the message is from another catalogue."""
    try:
        return ErrorText(id, **fields)
    except UnknownErrorText:
        return None


def echoed(text: str) -> str:
    """What a client named, for a message about it: the beginning, if it is long."""
    return text if len(text) <= MAX_ECHO_CHARS else text[:MAX_ECHO_CHARS] + "…"


@cache
def fields_of(template: str) -> Collection[str]:
    """The names of the fields in a template."""
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def _field_text(value: object) -> str:
    if isinstance(value, ErrorText):
        return value
    text = f"{value:g}" if isinstance(value, float) else str(value)
    # Neither the pipe nor gRPC can carry lone surrogates.
    safe = text.encode("utf-8", "replace").decode("utf-8")
    return safe if len(safe) <= MAX_FIELD_CHARS else safe[:MAX_FIELD_CHARS] + "…"
