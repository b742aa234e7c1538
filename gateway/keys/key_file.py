"""The key file (API_KEYS_FILE): JSON Lines of keys with rights, and bare SHA-256 digests.

    {"id":"k3j9x0ab12cd","salt":"…","hash":"…","alias":"class 7b","chat":{"tokens_per_day":100000}}
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 an older key, with all rights
    # a comment

A line that is wrong gives no key and is named in the log; the others stay valid. A change is
written to a new file that replaces the old one, so a reader never sees half of it.
"""

import re
from collections.abc import Callable
from pathlib import Path

import filelock
import msgspec

from common.atomic_file import replace_file
from gateway.keys.endpoints import NAMES
from gateway.keys.record import KeyRecord, plain_record

LOCK_WAIT_S = 10.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_record = msgspec.json.Decoder(KeyRecord)

Edit = Callable[[dict[str, KeyRecord]], None]


class WrongLine(ValueError):
    """A line of the key file is neither a key, a digest nor a comment."""


class KeyFile:
    """What a key file says.

    Args:
        records: keys with rights, by id.
        plain: records of bare digests, by digest.
        kept: lines that are no keys with rights, as they were.
        mistakes: what is wrong, one text with its line's number each.
    """

    def __init__(self, text: str = "") -> None:
        self.records: dict[str, KeyRecord] = {}
        self.plain: dict[bytes, KeyRecord] = {}
        self.kept: list[str] = []
        self.mistakes: list[str] = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                self._read(line.strip())
            except ValueError as error:
                self.mistakes.append(f"line {number}: {error}")
                self.kept.append(line)

    def _read(self, line: str) -> None:
        if line.startswith("{"):
            record = checked(_record.decode(line))
            if record.id in self.records:
                raise WrongLine("a line before it has the same id")
            self.records[record.id] = record
            return
        self.kept.append(line)
        word = line.split(maxsplit=1)[0].lower() if line else ""
        if _DIGEST.fullmatch(word):
            digest = bytes.fromhex(word)
            self.plain[digest] = plain_record(digest)

    def text(self) -> str:
        """The file's content; comments and digests come first."""
        lines = [*self.kept, *(msgspec.json.encode(r).decode() for r in self.records.values())]
        return "".join(f"{line}\n" for line in lines)


def checked(record: KeyRecord) -> KeyRecord:
    """The record.

    Raises:
        WrongLine: it names groups of endpoints that do not exist.
    """
    unknown = sorted({*(record.endpoints or ())} - {*NAMES})
    if unknown:
        raise WrongLine(f"no such endpoints: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return record


def edit(path: Path, change: Edit) -> None:
    """Change the keys with rights in a file, alone among all processes; it may not exist yet.

    Raises:
        OSError: the file, or the folder it is in, cannot be written.
        filelock.Timeout: another process holds the file for long.
    """
    with filelock.FileLock(f"{path}.lock", timeout=LOCK_WAIT_S):
        file = KeyFile(path.read_text(encoding="utf-8") if path.exists() else "")
        change(file.records)
        replace_file(path, file.text().encode())
