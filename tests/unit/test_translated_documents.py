"""The Traditional Chinese documents say what the English ones say.

Compared is what needs no reading, section by section: the levels of headings, code, tables, links,
settings, paths and figures. A change of any of them in one language fails until the other follows.
"""

import re
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
class Facts:
    """What a piece of text states in both languages alike."""

    code: set[str] = field(default_factory=set)
    figures: set[str] = field(default_factory=set)
    links: set[tuple[str, int]] = field(default_factory=set)

    def add(self, token: Token, page: Path) -> None:
        for part in token.children or [token]:
            if part.type == "code_inline":
                self.code.add(part.content)
            elif target := part.attrGet("href") or part.attrGet("src"):
                self.links.add(meant(str(target), page))
            else:
                self.figures.update(FIGURE.findall(part.content))


@dataclass
class Section:
    """A heading and what stands below it: text, fenced code, and the cells of tables."""

    level: str
    title: str = field(default="", compare=False)
    text: Facts = field(default_factory=Facts)
    fences: list[tuple[str, str]] = field(default_factory=list)
    tables: list[list[list[Facts]]] = field(default_factory=list)


def sections(page: Path) -> list[Section]:
    found = [Section("before the first heading")]
    here = found[0].text
    for token in PARSER.parse(page.read_text("utf-8")):
        match token.type:
            case "heading_open":
                found.append(Section(token.tag))
                here = found[-1].text
            case "table_open":
                found[-1].tables.append([])
            case "tr_open":
                found[-1].tables[-1].append([])
            case "th_open" | "td_open":
                here = Facts()
                found[-1].tables[-1][-1].append(here)
            case "table_close":
                here = found[-1].text
            case "fence":
                found[-1].fences.append((token.info, token.content))
            case "inline" | "code_block":
                found[-1].title = found[-1].title or token.content
                here.add(token, page)
    return found


def meant(link: str, page: Path) -> tuple[str, int]:
    """The file that `link` leads to, of a translation its original, and the n-th heading there."""
    if "://" in link:
        return link, 0
    name, _, anchor = unquote(link).partition("#")
    target = (page.parent / name).resolve() if name else page
    place = anchors(target).index(anchor) if anchor else 0
    return ORIGINALS.get(target, target).relative_to(ROOT).as_posix(), place


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
        assert ours == theirs, f"{theirs.title} / {ours.title}"


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
    # A line break shows as a space, and stars as such where full-width punctuation stands beside it.
    assert re.findall(rf"{IDEOGRAPH}\n *{IDEOGRAPH}", text) == []
    inlines = [token for token in PARSER.parse(text) if token.type == "inline"]
    shown = [part.content for token in inlines for part in token.children or []]
    assert [part for part in shown if "*" in part] == []
