"""What `y26hkx bench` measured so far: one line of JSON for each run, the newest last."""

from dataclasses import dataclass
from pathlib import Path

import filelock
import msgspec

from cli.commands.failure import CommandError
from common.atomic_file import replace_file

FILE = "bench.jsonl"
MOST_RUNS = 1000
LOCK_S = 5.0


@dataclass(frozen=True)
class Speed:
    """
    Args:
        at_s: seconds since the epoch.
        prompt_tokens_per_s: the fastest of the rounds; 0: unknown, as with the next one.
    """

    server: str
    version: str
    model: str
    at_s: float
    prompt_tokens_per_s: float
    answer_tokens_per_s: float


def kept(file: Path) -> list[Speed]:
    found = []
    for line in _lines(file):
        try:
            found.append(msgspec.json.decode(line, type=Speed))
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Another version wrote it, or it was damaged.
            continue
    return found


def keep(file: Path, speed: Speed) -> None:
    """Add a run; beyond `MOST_RUNS` the oldest go.

    Raises:
        CommandError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file.with_suffix(".lock"), timeout=LOCK_S):
            lines = [*_lines(file), msgspec.json.encode(speed)][-MOST_RUNS:]
            replace_file(file, b"\n".join(lines) + b"\n")
    except (OSError, filelock.Timeout) as error:
        raise CommandError(f"{file} cannot be written: {error}") from error


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines()
    except FileNotFoundError:
        return []
