"""The catalogue of texts for clients, in English. Other languages translate the same ids."""

from common.error_texts.text import (
    ENGLISH,
    ErrorText,
    UnknownErrorText,
    echoed,
    fields_of,
    known_text,
    translated,
)

__all__ = [
    "ENGLISH",
    "ErrorText",
    "UnknownErrorText",
    "echoed",
    "fields_of",
    "known_text",
    "translated",
]
