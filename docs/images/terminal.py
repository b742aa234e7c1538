"""Records real commands as an SVG picture that plays by itself: `python docs/images/terminal.py`.

It needs a server that runs with the built-in models alone (GATEWAY_PORT). Each line appears after
as many seconds as it took; long waits are shortened. No script is in the picture, so that it plays
where it is embedded.
"""

import subprocess
import sys
import time
from html import escape
from pathlib import Path
from typing import NamedTuple

OUT = Path(__file__).with_name("terminal.svg")
GUIDE = "qwen2-y26hkx-guide"
COMMANDS = (
    ("ls",),
    ("chat", "How do I pull a bigger model?", "--temperature", "0"),
    ("alias", "gpt-4o", GUIDE),
    ("chat", "--model", "gpt-4o", "How do I read the metrics?", "--temperature", "0"),
    ("ps",),
)
WIDTH, COLUMNS, LINE_PX, MARGIN = 860, 100, 18, 14
TYPING_S, LONGEST_WAIT_S, END_S = 0.04, 1.5, 6.0


class Line(NamedTuple):
    at_s: float
    text: str
    is_command: bool = False


def record() -> list[Line]:
    """Run the commands, and return what a terminal shows."""
    lines, now_s = [], 0.5
    for command in COMMANDS:
        shown = " ".join(f'"{word}"' if " " in word else word for word in command)
        lines.append(Line(now_s, f"$ y26hkx {shown}", is_command=True))
        now_s += TYPING_S * len(shown)
        began_s = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-u", "-m", "cli", *command], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for text in process.stdout:
                waited_s, began_s = time.monotonic() - began_s, time.monotonic()
                now_s += min(waited_s, LONGEST_WAIT_S)
                lines += [Line(now_s, part) for part in _wrapped(text.rstrip())]
        if process.returncode:
            raise SystemExit(f"y26hkx {shown} failed")
        now_s += 1
    return lines


def _wrapped(text: str) -> list[str]:
    parts = [text[at : at + COLUMNS] for at in range(0, len(text), COLUMNS)]
    return parts or [""]


def picture(lines: list[Line]) -> str:
    """An SVG in which each line becomes visible at its time, again and again."""
    whole_s = lines[-1].at_s + END_S
    height = LINE_PX * len(lines) + 2 * MARGIN
    rules, texts = [], []
    for number, line in enumerate(lines):
        begin = 100 * line.at_s / whole_s
        rules.append(
            f"@keyframes l{number}{{0%,{begin:.2f}%{{opacity:0}}{begin + 0.01:.2f}%{{opacity:1}}}}"
        )
        y = MARGIN + LINE_PX * (number + 1) - 4
        kind = "c" if line.is_command else "o"
        style = f"animation:l{number} {whole_s:.1f}s step-end infinite"
        texts.append(
            f'<text class="{kind}" x="{MARGIN}" y="{y}" style="{style}">{escape(line.text)}</text>'
        )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" role="img" xml:space="preserve"
  viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">
<title>y26hkx in a terminal</title>
<style>
text{{font:13px ui-monospace,Consolas,Menlo,monospace;white-space:pre}}
.c{{fill:#7ee787}}.o{{fill:#e6edf3}}
@media (prefers-reduced-motion:reduce){{text{{animation:none!important}}}}
{"".join(rules)}
</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
{chr(10).join(texts)}
</svg>
"""


if __name__ == "__main__":
    OUT.write_text(picture(record()), "utf-8")
