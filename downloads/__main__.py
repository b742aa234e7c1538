"""`python -m downloads pull|remove NAME`: for the gateway, which reads the lines of JSON.

The last line is the result or an error. The process ends when its stdin closes.
"""

import argparse
import sys
from typing import Any

import msgspec

from common.errors import ServingError
from common.parent_watch import exit_with_parent
from common.settings import read_or_exit
from downloads.failures import failure_line
from downloads.settings import DownloadSettings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m downloads", description=__doc__)
    parser.add_argument("action", choices=("pull", "remove"))
    parser.add_argument("name")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--plan-only", action="store_true")
    chosen = parser.parse_args()
    settings = read_or_exit(DownloadSettings, "downloads")
    exit_with_parent()
    try:
        if chosen.action == "pull":
            from downloads.pull import pull

            pull(chosen.name, settings, _write, force=chosen.force, plan_only=chosen.plan_only)
        else:
            from downloads.remove import remove

            _write(remove(chosen.name, settings))
    except ServingError as error:
        _write(failure_line(error))
    return 0


def _write(event: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
