"""JSON as models write it: what is meant is read, nothing is added, and no text breaks it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_worker.text.json_repair import NotJson, arguments_of, read_json, repaired

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_valid_json_is_read_as_it_is(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert repaired(text) == value
        assert read_json(f"  {text} and more", 0)[0] == value or isinstance(value, int)


@given(st.dictionaries(TEXTS, VALUES, min_size=1), st.data())
def test_what_was_cut_is_a_beginning_of_what_was_meant(value: dict[str, Any], data: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    cut = text[: data.draw(st.integers(1, len(text)))]
    try:
        found, _ = read_json(cut, 0)
    except NotJson:
        return  # within a word, such as tru
    assert isinstance(found, dict)
    assert list(found) == list(value)[: len(found)]
    for key in list(found)[:-1]:
        assert found[key] == value[key]


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    repaired(text)
    assert isinstance(arguments_of(text), dict)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('{"a": "x\ny"}', {"a": "x\ny"}),
        ("{'a': 'it', 'b': True, 'c': None}", {"a": "it", "b": True, "c": None}),
        ('{"a": [1, 2', {"a": [1, 2]}),
        ('{"a": 1,}', {"a": 1}),
        ('{a: 1, b: "x"}', {"a": 1, "b": "x"}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a": {"b": "c"', {"a": {"b": "c"}}),
        ('{"a": 1, "b', {"a": 1}),
        ("[" * 500, "[" * 500),
    ],
)
def test_what_models_write_is_read_as_they_mean_it(text: str, meant: Any) -> None:
    assert repaired(text) == meant
