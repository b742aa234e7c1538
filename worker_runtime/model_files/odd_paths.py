"""Names of files that are no valid Unicode, or not fit to be shown.

File systems take any bytes as names (Windows: any 16-bit units). Python keeps what is no text as
lone surrogates, which neither msgpack, JSON nor protobuf can carry, and which libraries refuse.
"""

import os
import unicodedata
from pathlib import Path

# Control and formatting characters (escape sequences, right-to-left marks), line ends, surrogates.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SURROGATE_BYTES = range(0xDC80, 0xDD00)
# In no path: it marks one that is written byte by byte.
_MARK = "\0"


def printable(text: str) -> str:
    """`text` in normal form C, fit to be shown: what is not stands as `_xff` or `_u202e`."""
    return "".join(map(_shown, unicodedata.normalize("NFC", text)))


def path_text(path: str | Path) -> str:
    """`path`, made absolute, as text that every encoding can carry; `path_of` reads it."""
    text = os.path.abspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _MARK + os.fsencode(text).decode("latin-1")
    return text


def path_of(text: str) -> Path:
    """The path that `path_text` wrote."""
    if not text.startswith(_MARK):
        return Path(text)
    return Path(os.fsdecode(text.removeprefix(_MARK).encode("latin-1")))


def library_path(text: str) -> Path:
    """The folder that `path_text` wrote, as libraries take it that know valid text only.

    A folder with an odd name becomes the process's working folder, and is called by that.
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
