"""What the code says to clients is in the catalogue, and what is in the catalogue is said."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import errors
from common.error_texts import ENGLISH, ErrorText, UnknownErrorText, fields_of
from common.error_texts.text import MAX_FIELD_CHARS

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (
    *("protos", "gateway", "worker_runtime", "chat_worker", "embed_worker", "simple"),
    "downloads",
)
CATALOGUES = ("error_texts", "localize")
ERRORS = {kind.__name__ for kind in errors.error_types()}


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "_pb2" not in path.name and not set(CATALOGUES) & set(path.parts):
                tree = ast.parse(path.read_text(encoding="utf-8"))
                yield from ((path, node) for node in ast.walk(tree))


def calls(names: set[str]) -> Iterator[tuple[str, ast.Call]]:
    """Calls of a function of these names, each with where it is."""
    for path, node in nodes():
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in names:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_text_in_the_code_is_in_the_catalogue_with_the_same_fields() -> None:
    wrong, n_seen = [], 0
    for place, call in calls({"ErrorText"}):
        match call.args:
            case [ast.Constant(value=str(id))]:
                n_seen += 1
                named = {keyword.arg for keyword in call.keywords if keyword.arg}
                spread = len(named) < len(call.keywords)
                fields = set(fields_of(ENGLISH.get(id, "")))
                if id not in ENGLISH or not (named <= fields if spread else named == fields):
                    wrong.append(f"{place}: {id}")
    assert wrong == []
    assert n_seen > 250, "the reader of the code still finds them"


def test_no_error_of_ours_speaks_english_alone() -> None:
    """A plain string is for words of others, which cannot be translated."""
    spoken = [
        place
        for place, call in calls(ERRORS)
        if call.args and isinstance(call.args[0], ast.Constant | ast.JoinedStr)
    ]
    suggested = [
        place
        for place, call in calls(ERRORS)
        for keyword in call.keywords
        if keyword.arg == "suggestions"
        for element in getattr(keyword.value, "elts", ())
        if isinstance(element, ast.Constant | ast.JoinedStr)
    ]
    assert spoken + suggested == []


def test_the_catalogue_holds_nothing_that_is_nowhere_said() -> None:
    written = {node.value for _, node in nodes() if isinstance(node, ast.Constant)}
    assert {id for id in ENGLISH if not id.startswith("pydantic_")} - written == set()


@pytest.mark.parametrize(
    ("id", "fields"), [("no_such_text", {}), ("load_failed", {}), ("input_empty", {"why": "x"})]
)
def test_a_text_that_is_not_in_the_catalogue_cannot_be_made(
    id: str, fields: dict[str, str]
) -> None:
    with pytest.raises(UnknownErrorText, match=id):
        ErrorText(id, **fields)


def test_fields_are_bounded_and_can_be_sent() -> None:
    text = ErrorText("load_failed", why="\ud800" + "a" * 10_000)
    assert len(text.fields["why"]) <= MAX_FIELD_CHARS + 1
    assert text.encode("utf-8")


def test_numbers_are_written_as_people_do() -> None:
    text = ErrorText("out_of_range", name="top_p", low=0.0, high=1.5)
    assert text == "top_p must be between 0 and 1.5"
