"""Prints tables and sizes the way the commands show them."""

import json
import sys
from collections.abc import Iterable, Sequence

from common.sizes import MIB

GIB = 1024 * MIB


def size(n_bytes: float) -> str:
    """Such as "1.1 GiB"."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB else f"{n_bytes / MIB:.0f} MiB"


def write(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def write_json(value: object) -> None:
    write(json.dumps(value, indent=2, ensure_ascii=False))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns, the last of them as long as it is."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        write("  ".join(cells).rstrip())
