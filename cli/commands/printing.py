"""Prints tables and sizes the way the commands show them."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Literal

from cli.settings import wants_color
from common.sizes import GIB, MIB

Color = Literal["faint", "red", "green", "yellow"]
CODES = {"faint": 2, "red": 31, "green": 32, "yellow": 33}
_PAINT = re.compile(r"\033\[\d+m")


def size(n_bytes: float) -> str:
    """Such as "1.1 GiB"."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB else f"{n_bytes / MIB:.0f} MiB"


def write(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def write_json(value: object) -> None:
    write(json.dumps(value, indent=2, ensure_ascii=False))


def colored(text: str, color: Color) -> str:
    """The text in a color, on a terminal whose user has not said NO_COLOR."""
    if not (sys.stdout.isatty() and wants_color()):
        return text
    return f"\033[{CODES[color]}m{text}\033[0m"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns, the last of them as long as it is."""
    lines = [heads, *rows]
    widths = [
        max(len(_PAINT.sub("", line[column])) for line in lines) for column in range(len(heads))
    ]
    for number, line in enumerate(lines):
        cells = (
            cell + " " * (width - len(_PAINT.sub("", cell)))
            for cell, width in zip(line, widths, strict=True)
        )
        text = "  ".join(cells).rstrip()
        write(colored(text, "faint") if number == 0 else text)
