"""The page with the tables, whose parts are written one by one."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
PART = "<!-- {name} -->\n{text}<!-- end of {name} -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write_part(name: str, text: str) -> None:
    """Replace the part `name` of the page."""
    page = PAGE.read_text(encoding="utf-8")
    part = re.compile(rf"<!-- {name} -->\n.*?<!-- end of {name} -->", re.S)
    assert part.search(page), f"the page has no part {name}"
    new = PART.format(name=name, text=text)
    PAGE.write_text(part.sub(lambda _: new, page), encoding="utf-8")
