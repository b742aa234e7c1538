"""The Traditional Chinese documents say what the English ones say.

Compared is what needs no reading, section by section: the levels of headings, code, tables, links,
settings, paths and figures. A change of any of them in one language fails until the other follows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
TRANSLATIONS = {
    ROOT / "README.md": ROOT / "README.zh-TW.md",
    **{ROOT / "docs" / page.name: page for page in (ROOT / "docs/zh-TW").glob("*.md")},
}
ORIGINALS = {translation: original for original, translation in TRANSLATIONS.items()}
PARSER = MarkdownIt("commonmark").enable("table")
FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
# Words of mainland China for which Taiwan has others, such as 記憶體, 程式 and 預設.
MAINLAND = re.compile(
    "內存|軟件|硬件|程序|進程|線程|文件夾|默認|服務器|網絡|支持|設置|緩存|加載|數據|字節|端口|隊列|調用|令牌"
)
IDEOGRAPH = "[\u4e00-\u9fff]"

pages = pytest.mark.parametrize(
    "original", sorted(TRANSLATIONS), ids=lambda page: page.relative_to(ROOT).as_posix()
)


@dataclass
class Section:
    """A heading, and the facts below it: where each stands, its kind, and what it is."""

    level: str
    title: str = ""
    facts: set[tuple[str, str, str]] = field(default_factory=set)


def sections(page: Path) -> list[Section]:
    """The sections of `page`, after one for what stands above the first heading."""
    found = [Section("top")]
    place = "text"
    n_fences = n_tables = row = cell = 0
    for token in PARSER.parse(page.read_text("utf-8")):
        match token.type:
            case "heading_open":
                found.append(Section(token.tag))
            case "fence":
                n_fences += 1
                found[-1].facts.add((f"fence {n_fences}", token.info, token.content))
            case "table_open":
                n_tables, row = n_tables + 1, 0
            case "tr_open":
                row, cell = row + 1, 0
            case "th_open" | "td_open":
                cell += 1
                place = f"table {n_tables}, row {row}, cell {cell}"
                found[-1].facts.add((place, "cell", ""))
            case "table_close":
                place = "text"
            case "inline" | "code_block":
                found[-1].title = found[-1].title or token.content
                found[-1].facts.update((place, *fact) for fact in facts(token, page))
    return found


def facts(token: Token, page: Path) -> Iterator[tuple[str, str]]:
    """The kind and the value of what `token` states in every language alike."""
    for part in token.children or [token]:
        if part.type == "code_inline":
            yield "code", part.content
        elif target := part.attrGet("href") or part.attrGet("src"):
            yield "link", meant(str(target), page)
        else:
            yield from (("figure", figure) for figure in FIGURE.findall(part.content))


def meant(link: str, page: Path) -> str:
    """The file that `link` leads to, of a translation its original, and the n-th heading there."""
    if "://" in link:
        return link
    name, _, anchor = unquote(link).partition("#")
    target = (page.parent / name).resolve() if name else page
    place = anchors(target).index(anchor) if anchor else 0
    return f"{ORIGINALS.get(target, target).relative_to(ROOT).as_posix()}, heading {place}"


@cache
def anchors(page: Path) -> list[str]:
    """The anchors that GitHub gives to the headings of `page`, after an empty one for its top."""
    pairs = pairwise(PARSER.parse(page.read_text("utf-8")))
    titles = [title.content for opening, title in pairs if opening.type == "heading_open"]
    return ["", *(re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in titles)]


@pages
def test_a_translation_has_the_sections_code_tables_links_and_figures_of_its_original(
    original: Path,
) -> None:
    english, chinese = sections(original), sections(TRANSLATIONS[original])
    assert [each.level for each in chinese] == [each.level for each in english]
    for theirs, ours in zip(english, chinese, strict=True):
        assert ours.facts == theirs.facts, f"{theirs.title} / {ours.title}"


@pages
def test_both_languages_link_to_each_other_below_the_title(original: Path) -> None:
    for page, other in (
        (original, TRANSLATIONS[original]),
        (TRANSLATIONS[original], original),
    ):
        line = page.read_text("utf-8").splitlines()[2]
        (link,) = re.findall(r"\[(?:English|繁體中文)\]\((.+?)\)", line)
        assert (page.parent / link).resolve() == other


@pages
def test_a_translation_links_to_translations_where_there_are_some(original: Path) -> None:
    page = TRANSLATIONS[original]
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    targets = {(page.parent / link).resolve() for link in links}
    assert targets & TRANSLATIONS.keys() == {original}


@pages
def test_a_translation_is_written_as_in_taiwan_and_shows_as_it_was_meant(original: Path) -> None:
    text = TRANSLATIONS[original].read_text("utf-8")
    ideographs = "".join(re.findall(IDEOGRAPH, text))
    assert ideographs.encode("big5", "ignore").decode("big5") == ideographs
    assert MAINLAND.findall(text) == []
    # A line break shows as a space; stars beside full-width punctuation show as stars.
    assert re.findall(rf"{IDEOGRAPH}\n *{IDEOGRAPH}", text) == []
    inlines = [token for token in PARSER.parse(text) if token.type == "inline"]
    shown = [part.content for token in inlines for part in token.children or []]
    assert [part for part in shown if "*" in part] == []
