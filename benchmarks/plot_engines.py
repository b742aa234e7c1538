"""Draws what `bench engines --json FILE` measured: `run.py bench plot-engines FILE IMAGE`."""

import argparse
from collections.abc import Iterator
from html import escape
from pathlib import Path

from benchmarks.engine_figures import Report, read_report

WIDTH, LABEL, BAR, GAP, TITLE = 900, 170, 13, 22, 34
NUMBER = 55
# By the beginning of an engine's name: ours strong, others pale.
COLOURS = {"openvino": "#2563eb", "llama.cpp": "#16a34a", "transformers": "#d97706"}
OTHERS = "#94a3b8"
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#0f172a}"
    ".title{font-weight:600}.note{fill:#64748b}"
    "@media(prefers-color-scheme:dark){text{fill:#e2e8f0}.note{fill:#94a3b8}}"
)


def svg(report: Report) -> str:
    """A chart for each number of words and of clients, in two rows; tokens/s."""
    figures = report.engines
    some = next(iter(figures.values()))
    rows = [
        [
            (f"prompt of {n:,} words", {name: f.prompts.get(n) for name, f in figures.items()})
            for n in some.prompts
        ],
        [
            (
                f"{n} client{'s' if n > 1 else ''}",
                {name: f.answers.get(n) for name, f in figures.items()},
            )
            for n in some.answers
        ],
    ]
    height_of_row = TITLE + BAR * 1.5 * len(figures) + GAP
    height = int(2 * height_of_row)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>Tokens per second of {escape(report.model)}</title><style>{STYLE}</style>",
    ]
    for index, charts in enumerate(rows):
        parts += _row(charts, index * height_of_row)
    note = f"tokens/s · {report.model} · {report.processor}"
    parts += [_text(0, height - 8, note, "note"), "</svg>\n"]
    return "\n".join(parts)


def _row(charts: list[tuple[str, dict[str, float | None]]], top: float) -> Iterator[str]:
    """Charts side by side; the engines' names are on the left."""
    each = (WIDTH - LABEL) / len(charts)
    for index, name in enumerate(charts[0][1]):
        yield _text(0, _line(top, index), name)
    for column, (title, speeds) in enumerate(charts):
        left = LABEL + column * each
        yield _text(left, top + TITLE / 2, title, "title")
        most = max(speed or 0 for speed in speeds.values()) or 1
        for index, (name, speed) in enumerate(speeds.items()):
            if speed is None:
                continue
            length = (each - NUMBER) * speed / most
            y = _line(top, index)
            yield (
                f'<rect x="{left:.0f}" y="{y - BAR + 3:.0f}" width="{length:.1f}" height="{BAR}"'
                f' rx="2" fill="{_colour(name)}"/>'
            )
            yield _text(left + length + 4, y, f"{speed:,.0f}")


def _line(top: float, index: int) -> float:
    return top + TITLE + BAR * 1.5 * index


def _colour(name: str) -> str:
    return next((colour for start, colour in COLOURS.items() if name.startswith(start)), OTHERS)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{style}>{escape(text)}</text>'


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench plot-engines", description=__doc__)
    parser.add_argument("figures", type=Path, help="written by bench engines --json")
    parser.add_argument("image", type=Path, help="the SVG file")
    chosen = parser.parse_args(argv)
    chosen.image.write_text(svg(read_report(chosen.figures)), encoding="utf-8")
    return 0
