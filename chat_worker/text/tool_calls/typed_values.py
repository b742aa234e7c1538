"""Converts the arguments of a call to the types in the tool's schema.

Some notations write every value as text, and small models write "3" for 3. A value that fits no
type of the schema stays unchanged; the check of the arguments refuses it afterwards.
"""

import json
from typing import Any

from chat_worker.constraints.references import target_of
from chat_worker.text.json_repair import repaired

MAX_DEPTH = 32
WORDS_FOR_NULL = frozenset({"null", "none", "nil"})


def typed(value: Any, schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """`value`, and the values inside it, in the types that `schema` allows.

    Args:
        root: the schema in which references are resolved.
    """
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return value
    schemas = _meant(schema, root, depth)
    kinds = frozenset[str]().union(*(_kinds(each) for each in schemas))
    value = _in_kind(value, kinds)
    for each in schemas:
        value = _inner(value, each, root, depth)
    return value


def kinds_of(schema: Any, root: dict[str, Any]) -> frozenset[str]:
    """The names of the JSON types that `schema` allows; empty if it does not restrict them."""
    if not isinstance(schema, dict):
        return frozenset()
    return frozenset[str]().union(*(_kinds(each) for each in _meant(schema, root, 0)))


def _inner(value: Any, schema: dict[str, Any], root: dict[str, Any], depth: int) -> Any:
    match value:
        case dict():
            named = schema.get("properties")
            named = named if isinstance(named, dict) else {}
            rest = schema.get("additionalProperties")
            return {
                key: typed(each, named.get(key, rest), root, depth + 1)
                for key, each in value.items()
            }
        case list():
            items = schema.get("items")
            return [typed(each, items, root, depth + 1) for each in value]
        case _:
            return value


def _meant(schema: dict[str, Any], root: dict[str, Any], depth: int) -> list[dict[str, Any]]:
    """The schema itself, the schemas to which it refers, and its alternatives."""
    found = [schema]
    parts = [schema["$ref"]] if "$ref" in schema else []
    for key in ("anyOf", "oneOf", "allOf"):
        listed = schema.get(key)
        parts += listed if isinstance(listed, list) else []
    for part in parts:
        inner = target_of(part, root) if isinstance(part, str) else part
        if isinstance(inner, dict) and depth < MAX_DEPTH:
            found += _meant(inner, root, depth + len(parts))
    return found


def _kinds(schema: dict[str, Any]) -> frozenset[str]:
    """The JSON types that this schema itself names; empty if it names none."""
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return frozenset({kinds})
    if isinstance(kinds, list):
        return frozenset(map(str, kinds))
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        return frozenset(_kind(value) for value in values)
    return frozenset({"object"}) if "properties" in schema else frozenset()


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case None:
            return "null"
        case list():
            return "array"
        case _:
            return "object"


def _in_kind(value: Any, kinds: frozenset[str]) -> Any:
    kind = _kind(value)
    if kind in kinds or (kind == "integer" and "number" in kinds):
        is_null = kind == "string" and "null" in kinds and value.lower() in WORDS_FOR_NULL
        return None if is_null else value
    if kind == "string":
        return _from_text(value, kinds)
    if kind == "number" and "integer" in kinds and value.is_integer():
        return int(value)
    if kinds == {"string"} and value is not None:
        return json.dumps(value, ensure_ascii=False)
    return value


def _from_text(text: str, kinds: frozenset[str]) -> Any:
    """The value of a text if the schema allows other types than text, or any type."""
    found = repaired(text.strip()) if text.strip() else text
    if isinstance(found, str):
        return None if "null" in kinds and text.lower() in WORDS_FOR_NULL else text
    if not kinds:
        return found
    found = _in_kind(found, kinds - {"string"}) if kinds - {"string"} else text
    return found if _kind(found) in kinds or _kind(found) == "integer" else text
