"""`y26hkx logs`: what the server on the port of the settings printed, and prints."""

import argparse
import sys
import time
from collections import deque
from pathlib import Path

from cli.commands.failure import CommandError
from cli.commands.printing import write, write_json
from cli.log_file import log_file
from cli.settings import StackSettings

LOOK_EVERY_S = 0.3


def logs(chosen: argparse.Namespace) -> int:
    """Print the last lines; go on with new ones if that is asked for."""
    settings = StackSettings.read({})
    file = log_file(settings.own_folder, settings.port)
    if not file.is_file():
        raise CommandError(f"no server of y26hkx serve has logged to {file}")
    if chosen.json:
        write_json({"file": str(file), "size_bytes": file.stat().st_size})
        return 0
    with file.open("rb") as log:
        for line in deque(log, maxlen=chosen.lines):
            _write(line)
        position = log.tell()
    sys.stdout.flush()
    if chosen.follow:
        _follow(file, position)
    return 0


def _follow(file: Path, position: int) -> None:
    while True:
        time.sleep(LOOK_EVERY_S)
        with file.open("rb") as log:
            if log.seek(0, 2) < position:
                # It is a new file: the old one became too large.
                position = 0
            log.seek(position)
            for line in log:
                _write(line)
            position = log.tell()
        sys.stdout.flush()


def _write(line: bytes) -> None:
    write(line.decode("utf-8", "replace").rstrip("\n"))
