"""Handles file names that are not valid Unicode or not fit to be shown.

File systems permit any bytes in names (Windows: any 16-bit units). Python represents invalid text
by lone surrogates, which msgpack, JSON and protobuf cannot carry and many libraries refuse.
"""

import os
import unicodedata
from pathlib import Path

# Control and formatting characters (escape sequences, right-to-left marks), line ends, surrogates.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SURROGATE_BYTES = range(0xDC80, 0xDD00)
# Marks a path that is written byte by byte, because no path contains this character.
_MARK = "\0"


def printable(text: str) -> str:
    """`text` in Unicode normal form C; characters not fit to be shown become `_xff` or `_u202e`."""
    return "".join(map(_shown, unicodedata.normalize("NFC", text)))


def path_text(path: str | Path) -> str:
    """The absolute path as text that every encoding can carry; `path_of` reads it."""
    text = os.path.abspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _MARK + os.fsencode(text).decode("latin-1")
    return text


def path_of(text: str) -> Path:
    """The path of a text that `path_text` wrote."""
    if not text.startswith(_MARK):
        return Path(text)
    return Path(os.fsdecode(text.removeprefix(_MARK).encode("latin-1")))


def library_path(text: str) -> Path:
    """The folder of a `path_text`, for libraries that accept valid text only.

    A folder with an invalid name becomes the process's working directory and is referred to by
    that.
    """
    path = path_of(text)
    if text.startswith(_MARK) and os.path.isdir(path):
        os.chdir(path)
        return Path()
    return path


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    code = ord(character)
    if code in _SURROGATE_BYTES:
        return f"_x{code - 0xDC00:02x}"
    return f"_u{code:04x}"
