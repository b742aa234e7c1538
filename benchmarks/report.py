"""Tables and bars on the terminal."""

import math
import statistics
import sys
from collections.abc import Sequence


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def median_ratio(figures: Sequence[float], others: Sequence[float]) -> float:
    """Of those that were measured in the same round: the machine's drift hits both."""
    return statistics.median(a / b for a, b in zip(figures, others, strict=True))


def quantile(figures: Sequence[float], share: float) -> float:
    """The smallest figure that at least this share of the figures does not exceed."""
    return sorted(figures)[max(math.ceil(share * len(figures)) - 1, 0)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def bar(name: str, value: float, limit: float, *, at_most: bool, unit: str = "") -> bool:
    """Print whether `value` keeps its bar, and return that."""
    kept = value <= limit if at_most else value >= limit
    sign = "≤" if at_most else "≥"
    say(f"{'ok  ' if kept else 'MISS'} {name}: {value:.4g}{unit} ({sign} {limit:.4g}{unit})")
    return kept
