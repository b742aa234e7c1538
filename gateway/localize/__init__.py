"""What errors say in other languages than English: one module of this package for each.

A language's module has its `TAG`, its `READERS`, and the templates of `MESSAGES` and `CODES`, as
`zh_tw.py` shows; that is all there is to add.
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
        tag: as Content-Language has it.
        readers: who accepts one of these tags, in lower case, or a variant of it, reads it; so
            does who accepts the first part of `tag` alone.
        messages: templates by the ids of the catalogue, with the same fields.
        codes: of an error whose message is somebody else's words: a template around its `text`,
            by the error's code.
    """

    tag: str
    readers: tuple[str, ...]
    messages: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)

    def message(self, error: ServingError) -> str:
        if isinstance(error.message, ErrorText):
            return self.text(error.message)
        return self.codes.get(error.code, "{text}").format(text=error.message)

    def text(self, text: str) -> str:
        """Somebody else's words as they are."""
        return translated(text, self.messages)


ENGLISH = Language("en", ("en",))


@cache
def languages() -> dict[str, Language]:
    """All that there are, by their tags; English first."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {language.tag: language for language in (ENGLISH, *map(_language, modules))}


def _language(module: ModuleType) -> Language:
    return Language(module.TAG, module.READERS, module.MESSAGES, module.CODES)
