"""The texts of errors in other languages than English: one module of this package for each.

The module of a language has its `TAG`, its `READERS`, and the templates of `MESSAGES` and `CODES`,
as in `zh_tw/`. Nothing else is needed for another language.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType

from common.error_texts import ErrorText, translated
from common.errors import ServingError


@dataclass(frozen=True)
class Language:
    """
    Args:
        tag: the value of Content-Language.
        readers: tags in lower case. A client that accepts one of them, or a variant of it, reads
            this language; so does one that accepts the first part of `tag`.
        messages: templates by the ids of the catalogue, with the same fields.
        codes: templates by the code of an error, around its `text`, for errors whose message
            comes from elsewhere and has no translation.
    """

    tag: str
    readers: tuple[str, ...]
    messages: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)

    def message(self, error: ServingError) -> str:
        """The message of `error` in this language."""
        if isinstance(error.message, ErrorText):
            return self.text(error.message)
        return self.codes.get(error.code, "{text}").format(text=error.message)

    def text(self, text: str) -> str:
        """The translation of `text`; a text that comes from elsewhere stays as it is."""
        return translated(text, self.messages)


ENGLISH = Language("en", ("en",))


@cache
def languages() -> dict[str, Language]:
    """All languages by their tags; English is the first."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {language.tag: language for language in (ENGLISH, *map(_language, modules))}


def _language(module: ModuleType) -> Language:
    return Language(module.TAG, module.READERS, module.MESSAGES, module.CODES)
