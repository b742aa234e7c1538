"""Objects of schemas have no properties that nobody named."""

from typing import Any

from chat_worker.constraints.schemas import closed


def test_objects_with_named_properties_take_no_others_at_any_depth() -> None:
    inner = {"type": "object", "properties": {"a": {}}}
    found = closed({"properties": {"x": inner, "y": {"items": {"anyOf": [inner]}}}})
    assert found["additionalProperties"] is False
    assert found["properties"]["x"]["additionalProperties"] is False
    assert found["properties"]["y"]["items"]["anyOf"][0]["additionalProperties"] is False


def test_what_a_schema_says_of_other_properties_stays() -> None:
    stated: tuple[dict[str, Any], ...] = (
        {"properties": {}, "additionalProperties": True},
        {"properties": {}, "additionalProperties": {"type": "string"}},
        {"properties": {}, "patternProperties": {"^x": {}}},
        {"type": "object"},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
    )
    for said in stated:
        assert closed(said) == said
