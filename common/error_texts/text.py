"""What is said to a client, by the id of a message and with named fields."""

from collections.abc import Collection, Mapping
from functools import cache
from string import Formatter

from common.error_texts import en_answers, en_requests, en_service, en_suggestions

MAX_FIELD_CHARS = 2000

ENGLISH: dict[str, str] = {
    **en_requests.MESSAGES,
    **en_answers.MESSAGES,
    **en_service.MESSAGES,
    **en_suggestions.MESSAGES,
}


class UnknownErrorText(LookupError):
    """The catalogue has no message of that id with those fields."""


class ErrorText(str):
    """Finished English that still knows which message it is, so that it can be said in others.

    Wherever a text is meant, a plain `str` is somebody else's words (a library's, a plugin's, a
    worker's of another version), and is shown in every language as it is. `str(text)` is English
    alone, for libraries that take no subclass.

    Args:
        id: of a message of the catalogue.
        fields: what its template names; one of them may be an `ErrorText` itself.
    Raises:
        UnknownErrorText: there is no such message, or it has other fields.
    """

    id: str
    fields: dict[str, str]

    def __new__(cls, id: str, /, **fields: object) -> "ErrorText":
        if id not in ENGLISH or fields_of(ENGLISH[id]) != fields.keys():
            raise UnknownErrorText(f"{id} with {', '.join(sorted(fields)) or 'no fields'}")
        said = {name: _said(value) for name, value in fields.items()}
        text = super().__new__(cls, ENGLISH[id].format_map(said))
        text.id, text.fields = id, said
        return text

    def translated(self, messages: Mapping[str, str]) -> str:
        """By the templates of another language; English where that has none."""
        return messages.get(self.id, ENGLISH[self.id]).format_map(
            {name: translated(value, messages) for name, value in self.fields.items()}
        )


def translated(text: str, messages: Mapping[str, str]) -> str:
    return text.translated(messages) if isinstance(text, ErrorText) else text


def known_text(id: str, fields: Mapping[str, object]) -> ErrorText | None:
    """None where `ErrorText` would raise: of whoever has another catalogue."""
    try:
        return ErrorText(id, **fields)
    except UnknownErrorText:
        return None


@cache
def fields_of(template: str) -> Collection[str]:
    """Names of the fields of a template."""
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def _said(value: object) -> str:
    if isinstance(value, ErrorText):
        return value
    text = f"{value:g}" if isinstance(value, float) else str(value)
    # Lone surrogates pass neither the pipe nor gRPC.
    safe = text.encode("utf-8", "replace").decode("utf-8")
    return safe if len(safe) <= MAX_FIELD_CHARS else safe[:MAX_FIELD_CHARS] + "…"
