"""JSON schemas as a grammar should hold a model to them."""

from typing import Any

NAMED = ("properties", "$defs", "definitions", "patternProperties")
LISTS = ("anyOf", "oneOf", "prefixItems")
SINGLE = ("items",)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, its objects having the properties that it names and no others, unless it says.

    What follows it follows `schema` too. An unsure model would go on inventing properties until
    its tokens are used up.
    """
    # Each part of an allOf sees the properties of the others as strange ones.
    return schema if _has_all_of(schema) else _closed(schema)


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    for key in NAMED:
        if isinstance(named := found.get(key), dict):
            found[key] = {name: _closed(inner) for name, inner in named.items()}
    for key in LISTS:
        if isinstance(listed := found.get(key), list):
            found[key] = [_closed(inner) for inner in listed]
    for key in SINGLE:
        if key in found:
            found[key] = _closed(found[key])
    if isinstance(found.get("properties"), dict) and "patternProperties" not in found:
        found.setdefault("additionalProperties", False)
    return found


def _has_all_of(value: Any) -> bool:
    if isinstance(value, dict):
        return "allOf" in value or any(map(_has_all_of, value.values()))
    return isinstance(value, list) and any(map(_has_all_of, value))
