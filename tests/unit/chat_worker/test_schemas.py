"""A client's schema as a grammar holds a model to it: closed and bounded."""

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest
from llguidance import LLMatcher

from chat_worker.backend import Tokenizer
from chat_worker.constraints.compile import json_grammar
from chat_worker.constraints.grammar import Grammars
from chat_worker.constraints.schemas import arguments_schema, enforceable
from chat_worker.pipe_messages import ConstraintSpec
from tests.unit.chat_worker.random_answers import answer

KINDS = {
    "A": {"type": "object", "properties": {"t": {"const": "a"}}, "required": ["t"]},
    "B": {"type": "object", "properties": {"t": {"const": "b"}}, "required": ["t"]},
}
OF_KINDS = [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]


def spoken(tokenizer: Tokenizer, schema: dict[str, Any], seed: int = 0) -> Any:
    """What a model with random logits answers under `schema`."""
    constraint = Grammars(tokenizer).start(ConstraintSpec("json_schema", json.dumps(schema)))
    return json.loads(answer(tokenizer, constraint, seed))


def test_objects_with_named_properties_take_no_others_at_any_depth() -> None:
    inner = {"type": "object", "properties": {"a": {}}}
    found = enforceable({"properties": {"x": inner, "y": {"items": {"anyOf": [inner]}}}}).schema
    assert found["additionalProperties"] is False
    assert found["properties"]["x"]["additionalProperties"] is False
    assert found["properties"]["y"]["items"]["anyOf"][0]["additionalProperties"] is False


def test_what_a_schema_says_of_other_properties_stays() -> None:
    stated: tuple[dict[str, Any], ...] = (
        {"properties": {}, "additionalProperties": True},
        {"properties": {}, "additionalProperties": {"type": "boolean"}},
        {"properties": {}, "patternProperties": {"^x": {}}},
    )
    for said in stated:
        found = enforceable(said).schema
        assert {key: found.get(key) for key in said} == said
        assert found.get("additionalProperties") == said.get("additionalProperties")


@pytest.mark.parametrize("parameters", [{}, {"type": "object"}, {"type": ["object", "null"]}])
def test_a_tool_that_describes_no_arguments_has_none(parameters: dict[str, Any]) -> None:
    held = arguments_schema(parameters)
    assert held["type"] == "object"
    assert held["properties"] == {}
    assert held["additionalProperties"] is False


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"$ref": "#/$defs/A"}, {"properties": {"n": {"type": "null"}}}]},
        {"properties": {"n": {"type": "null"}}, "anyOf": OF_KINDS, "required": ["n"]},
        {"properties": {"n": {"type": "null"}}, "oneOf": OF_KINDS},
        {"properties": {"t": {}, "n": {}}, "anyOf": [{"required": ["t"]}, {"required": ["n"]}]},
        {"type": "object", "additionalProperties": {"type": "object"}, "maxProperties": 2},
        {"properties": {"m": {"allOf": [{"$ref": "#/$defs/E"}], "default": "x"}}},
    ],
)
def test_combined_objects_hold_what_any_part_names_and_nothing_else(
    tokenizer: Tokenizer, schema: dict[str, Any]
) -> None:
    whole = schema | {"$defs": KINDS | {"E": {"enum": ["x", "y"]}}}
    for seed in range(4):
        found = spoken(tokenizer, whole, seed)
        jsonschema.validate(found, whole)
        if "additionalProperties" not in schema:
            assert found.keys() <= {"t", "n", "m"}


def test_a_demanded_property_that_nobody_describes_is_answered(tokenizer: Tokenizer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a", "zz"],
    }
    assert spoken(tokenizer, schema).keys() == {"a", "zz"}


@pytest.mark.parametrize(
    ("schema", "ignored"),
    [
        ({"type": "object", "propertyNames": {"type": "string"}}, ("propertyNames",)),
        ({"type": "string", "format": "password"}, ("format",)),
        ({"type": "string", "format": "date-time"}, ()),
        ({"$schema": "urn:ours", "type": "string"}, ("$schema",)),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, ()),
        ({"type": "boolean", "not": {}}, ("not",)),
        ({"type": "array", "uniqueItems": True}, ("uniqueItems",)),
        ({"type": "string", "minLength": None, "maxLength": None, "pattern": None}, ()),
        ({"oneOf": OF_KINDS, "$defs": KINDS}, ()),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, ()),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, ("oneOf",)),
        ({"items": {"oneOf": [{"const": 1}, {"const": 2}]}, "type": "array"}, ()),
    ],
)
def test_keywords_that_no_answer_depends_on_are_left_out_and_named(
    schema: dict[str, Any], ignored: tuple[str, ...]
) -> None:
    found = enforceable(schema)
    assert found.ignored == ignored
    assert not LLMatcher.validate_grammar(json_grammar(found.schema))


def test_what_a_schema_says_to_people_is_not_compiled() -> None:
    schema = {
        "type": "object",
        "title": "A",
        "description": "what it is",
        "properties": {"description": {"type": "string", "default": "x", "maxLength": 5}},
    }
    held = enforceable(schema).schema
    assert held["properties"] == {"description": {"type": "string", "maxLength": 5}}
    assert "title" not in held


def test_numbers_end(tokenizer: Tokenizer) -> None:
    """Greedy for digits, as a model in a loop is."""
    constraint = Grammars(tokenizer).start(ConstraintSpec("json_schema", '{"type": "number"}'))
    pieces = [tokenizer.piece(token) for token in range(tokenizer.n_vocab)]
    liking = np.array([1.0 if piece[:1] in b"0123456789." and piece else 0.0 for piece in pieces])
    said = b""
    while not constraint.is_complete:
        logits = liking.astype(np.float32)
        constraint.mask(logits)
        token = int(logits.argmax())
        constraint.accept(token)
        said += pieces[token]
        assert len(said) < 100
    float(said)


def test_texts_lists_and_open_objects_have_bounds() -> None:
    assert enforceable({"type": "string"}).schema["maxLength"] > 1_000
    assert enforceable({"type": "array"}).schema["maxItems"] > 100
    opened = {"type": "object", "additionalProperties": True, "minProperties": 200}
    assert enforceable(opened).schema["maxProperties"] == 200
    assert enforceable({"type": "string", "maxLength": 5}).schema["maxLength"] == 5


def test_open_objects_with_optional_properties_are_enforced() -> None:
    """llguidance bounds the properties of an object only where all that it names are required."""
    optional: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
    others: list[dict[str, Any]] = [
        {"additionalProperties": True},
        {"patternProperties": {"^x": {}}},
    ]
    for more in others:
        assert not LLMatcher.validate_grammar(json_grammar(enforceable(optional | more).schema))
    required = optional | {"additionalProperties": True, "required": ["a"]}
    assert enforceable(required).schema["maxProperties"] == 100


def test_references_in_a_circle_end() -> None:
    many = [{"$ref": "#"}] * 200
    enforceable({"allOf": many, "anyOf": many, "properties": {"a": {"allOf": many}}})


def test_what_a_random_schema_becomes_is_never_looser(tokenizer: Tokenizer) -> None:
    choose = random.Random(5)

    def made(depth: int) -> dict[str, Any]:
        leaves: list[dict[str, Any]] = [
            {"type": "boolean"},
            {"enum": ["x", 1, None]},
            {"type": "integer", "minimum": 0, "maximum": 9},
            {"$ref": "#/$defs/A"},
        ]
        if depth == 0:
            return choose.choice(leaves)
        names = choose.sample("abcde", 2)
        described = {"properties": {name: made(depth - 1) for name in names}}
        return choose.choice(
            [
                described | {"type": "object", "required": names[:1]},
                {"allOf": [described, {"properties": {"z": made(0)}, "required": ["z"]}]},
                {"anyOf": [described | {"type": "object"}, made(0)]},
                described | {"anyOf": [{"required": [names[0]]}, {"required": [names[1]]}]},
                {"type": "array", "items": made(depth - 1), "maxItems": 2},
            ]
        )

    for seed in range(40):
        schema = made(2) | {"$defs": KINDS}
        jsonschema.validate(spoken(tokenizer, schema, seed), schema)
