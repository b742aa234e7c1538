"""Prepares JSON schemas for a grammar.

Three things change. The last two allow more than the client's schema, so they are reported:

- Objects are closed unless the schema states otherwise, and unbounded texts, lists and objects get
  a limit. An unsure model would otherwise continue until its tokens are used up.
- Keywords that only restrict values further are left out instead of refused.
- `oneOf` is enforced as `anyOf`, which makes no difference if its branches exclude each other.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher

from chat_worker.constraints.references import target_of

Schema = dict[str, Any]

NAMED = ("properties", "$defs", "definitions", "patternProperties")
LISTED = ("prefixItems",)
SINGLE = ("items", "additionalProperties", "contains", "if", "then", "else")
COMBINED = ("allOf", "anyOf", "oneOf")
# Keywords that cannot be enforced, and that only restrict values further.
WITHOUT_EFFECT = frozenset({"propertyNames", "uniqueItems", "unevaluatedProperties"})
# Keywords that only describe a schema to people; a grammar does not need them.
ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "$comment", "deprecated", "readOnly"}
)
# Keywords for which null is a value and not a missing value.
NULL_IS_A_VALUE = frozenset({"const", "enum"})
DRAFTS = ("http://json-schema.org/", "https://json-schema.org/")

MAX_STRING_CHARS = 65_536
MAX_ITEMS = 1_000
MAX_PROPERTIES = 100
# The schema of a property that is required but not described.
SCALAR: Schema = {"type": ["string", "number", "boolean", "null"], "maxLength": 1_000}
# The most references that are replaced by their targets; further references stay as they are.
MAX_INLINED = 100


@dataclass(frozen=True)
class Enforceable:
    """The schema to compile, and the keywords of the client's schema that it leaves out."""

    schema: Schema
    ignored: tuple[str, ...] = ()


def enforceable(schema: Schema) -> Enforceable:
    """Return the schema that a grammar enforces, so that the model's JSON follows `schema`."""
    reader = _Reader(schema)
    held = reader.held(schema)
    return Enforceable(held, tuple(sorted(reader.ignored)))


def arguments_schema(parameters: Schema) -> Schema:
    """Return the schema to enforce for a tool's arguments, which are always an object."""
    return enforceable(parameters | {"type": "object"}).schema


class _Reader:
    """Prepares one schema.

    Args:
        root: the schema in which references are resolved.
    """

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._n_inlined = 0
        self.ignored: set[str] = set()

    def held(self, schema: Any, outer: frozenset[str] = frozenset()) -> Any:
        """Return the schema to enforce.

        Args:
            outer: properties that schemas beside this one allow in the same object.
        """
        if not isinstance(schema, dict):
            return schema
        found = self._cleaned(schema)
        if outer and "$ref" in found:
            # The target would be closed without regard to the schemas beside this one.
            target = target_of(found["$ref"], self._root)
            if target is None or self._n_inlined >= MAX_INLINED:
                return found
            self._n_inlined += 1
            siblings = {key: value for key, value in found.items() if key != "$ref"}
            return self.held({**target, **siblings}, outer)
        names = outer | self._names(found, set())
        self._hold_parts(found, outer, names)
        if _is_of_objects(found):
            # A schema that describes properties is meant for objects, although it allows other
            # values.
            found.setdefault("type", "object")
            self._close(found, names)
        return _bounded(found)

    def _cleaned(self, schema: Schema) -> Schema:
        found = {
            key: value
            for key, value in schema.items()
            if key not in ANNOTATIONS and (value is not None or key in NULL_IS_A_VALUE)
        }
        for key in WITHOUT_EFFECT & found.keys():
            self._ignore(found, key)
        if found.get("not") == {}:
            self._ignore(found, "not")
        if not _is_known_format(found.get("format")):
            self._ignore(found, "format")
        if "$schema" in found and not str(found["$schema"]).startswith(DRAFTS):
            self._ignore(found, "$schema")
        if "oneOf" in found and not self._are_exclusive(found["oneOf"]):
            self.ignored.add("oneOf")
        return found

    def _ignore(self, schema: Schema, key: str) -> None:
        del schema[key]
        self.ignored.add(key)

    def _hold_parts(self, found: Schema, outer: frozenset[str], names: frozenset[str]) -> None:
        for key in NAMED:
            if isinstance(named := found.get(key), dict):
                found[key] = {name: self.held(inner) for name, inner in named.items()}
        for key in LISTED:
            if isinstance(listed := found.get(key), list):
                found[key] = [self.held(inner) for inner in listed]
        for key in SINGLE:
            if key in found:
                found[key] = self.held(found[key])
        # A branch does not allow the properties of other branches.
        common = outer | _properties(found) | self._names_of_list(found.get("allOf"), set())
        for key, seen in (("allOf", names), ("anyOf", common), ("oneOf", common)):
            if isinstance(listed := found.get(key), list):
                found[key] = [self.held(inner, seen) for inner in listed]

    def _close(self, found: Schema, names: frozenset[str]) -> None:
        if "additionalProperties" in found or "patternProperties" in found:
            return
        own = found.get("properties")
        described = dict(own) if isinstance(own, dict) else {}
        demanded = found.get("required")
        for name in demanded if isinstance(demanded, list) else ():
            if isinstance(name, str) and name not in names:
                described.setdefault(name, SCALAR)
        # The schemas beside this one restrict the values of these properties.
        for name in sorted(names):
            described.setdefault(name, {})
        found["properties"] = described
        found["additionalProperties"] = False

    def _names(self, schema: Any, followed: set[str]) -> frozenset[str]:
        """Return the properties that a schema describes, including those in its combined parts.

        Args:
            followed: references that were followed already.
        """
        if not isinstance(schema, dict):
            return frozenset()
        found = _properties(schema)
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            followed.add(reference)
            found |= self._names(target_of(reference, self._root), followed)
        return found.union(*(self._names_of_list(schema.get(key), followed) for key in COMBINED))

    def _names_of_list(self, listed: Any, followed: set[str]) -> frozenset[str]:
        inner = listed if isinstance(listed, list) else []
        return frozenset[str]().union(*(self._names(each, followed) for each in inner))

    def _are_exclusive(self, branches: Any) -> bool:
        """Return whether no value can follow two branches.

        This is certain only if their types differ, or the constants of a property both require.
        """
        if not isinstance(branches, list):
            return False
        marks = [self._mark(branch) for branch in branches]
        return all(_differ(one, other) for i, one in enumerate(marks) for other in marks[i + 1 :])

    def _mark(self, branch: Any) -> Mapping[str, frozenset[str]]:
        """Return what sets a branch apart: its types, and the constants of required properties."""
        if isinstance(branch, dict) and "$ref" in branch:
            branch = target_of(branch["$ref"], self._root)
        if not isinstance(branch, dict):
            return {}
        marks = {"": _kinds(branch)}
        demanded = branch.get("required")
        properties = branch.get("properties")
        if isinstance(demanded, list) and isinstance(properties, dict):
            constants = ((name, _constants(properties.get(name))) for name in map(str, demanded))
            marks |= {f"/{name}": values for name, values in constants if values}
        return {name: values for name, values in marks.items() if values}


def _differ(one: Mapping[str, frozenset[str]], other: Mapping[str, frozenset[str]]) -> bool:
    return any(not one[name] & other[name] for name in one.keys() & other.keys())


def _kinds(schema: Schema) -> frozenset[str]:
    """Return the types of the values that follow a schema, or the values if it lists them."""
    if constants := _constants(schema):
        return constants
    kinds = schema.get("type")
    if isinstance(kinds, str):
        kinds = [kinds]
    if not isinstance(kinds, list):
        return frozenset({"object"}) if isinstance(schema.get("properties"), dict) else frozenset()
    # An integer is a number, too.
    return frozenset("number" if kind == "integer" else str(kind) for kind in kinds)


def _constants(schema: Any) -> frozenset[str]:
    if not isinstance(schema, dict):
        return frozenset()
    if "const" in schema:
        return frozenset({repr(schema["const"])})
    listed = schema.get("enum")
    return frozenset(map(repr, listed)) if isinstance(listed, list) else frozenset()


def _properties(schema: Schema) -> frozenset[str]:
    named = schema.get("properties")
    return frozenset(named) if isinstance(named, dict) else frozenset()


def _is_of_objects(schema: Schema) -> bool:
    return "object" in _types(schema) or any(key in schema for key in ("properties", "required"))


def _types(schema: Schema) -> list[Any]:
    kinds = schema.get("type")
    return kinds if isinstance(kinds, list) else [kinds]


def _bounded(schema: Schema) -> Schema:
    return dict(_bounds(schema)) | schema


def _bounds(schema: Schema) -> Iterator[tuple[str, int]]:
    kinds = _types(schema)
    if "string" in kinds and not schema.keys() & {"pattern", "format", "enum", "const"}:
        yield "maxLength", max(MAX_STRING_CHARS, _number(schema.get("minLength")))
    if "array" in kinds:
        yield "maxItems", max(MAX_ITEMS, _number(schema.get("minItems")))
    if "object" in kinds and schema.get("additionalProperties", True) is not False:
        named, required = _properties(schema), schema.get("required")
        # llguidance counts properties only where all that are named are required.
        if named <= set(map(str, required if isinstance(required, list) else ())):
            least = _number(schema.get("minProperties"))
            yield "maxProperties", max(MAX_PROPERTIES, len(named), least)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


@functools.cache
def _is_known(name: str) -> bool:
    grammar = LLMatcher.grammar_from_json_schema({"type": "string", "format": name})
    return not LLMatcher.validate_grammar(grammar)


def _is_known_format(name: Any) -> bool:
    # Names of formats are short; the grammar refuses a format that is not a name.
    return not isinstance(name, str) or (len(name) <= 64 and _is_known(name))
