"""The catalogue of what clients are told, in English; other languages have the same ids."""

from common.error_texts.text import (
    ENGLISH,
    ErrorText,
    UnknownErrorText,
    fields_of,
    known_text,
    translated,
)

__all__ = ["ENGLISH", "ErrorText", "UnknownErrorText", "fields_of", "known_text", "translated"]
