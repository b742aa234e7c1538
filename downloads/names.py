"""Checks the names of files that a hub lists before they become paths in the models folder."""

import re
import unicodedata
from pathlib import Path, PurePosixPath

from common.error_texts import ErrorText, echoed
from common.errors import InvalidRequest

MAX_PARTS = 4
MAX_NAME_BYTES = 200
# Windows takes these names for devices, with any extension and in every folder.
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³])(\..*)?", re.I)
_FORBIDDEN = frozenset('\\/:*?"<>|')


def safe_path(name: str) -> PurePosixPath:
    """Return the relative path that `name` means, with slashes between its parts.

    Raises:
        InvalidRequest: it could mean a place elsewhere, or no system could store it.
    """
    parts = name.split("/")
    if len(parts) > MAX_PARTS or not all(map(_is_plain, parts)):
        raise InvalidRequest(ErrorText("pull_file_name_unsafe", name=echoed(name)), param="model")
    return PurePosixPath(*parts)


def within(folder: Path, path: PurePosixPath) -> Path:
    """Return the place of `path` in `folder`, to which no link leads away.

    Raises:
        InvalidRequest: a link on the way leads out of the folder.
    """
    place = folder.joinpath(*path.parts)
    root = folder.resolve()
    if not place.parent.resolve().is_relative_to(root) or place.is_symlink():
        raise InvalidRequest(ErrorText("pull_target_is_link", name=str(path)), param="model")
    return place


def _is_plain(part: str) -> bool:
    """Whether every system stores a file of this name, and under no other name."""
    return (
        0 < len(part.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES
        and not part.startswith(".")
        and not part.endswith((".", " "))
        and not _DEVICES.fullmatch(part)
        and not _FORBIDDEN & set(part)
        and all(unicodedata.category(one)[0] != "C" for one in part)
    )
