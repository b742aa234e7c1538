"""Constraints over real vocabularies: whatever the logits want, the answer follows the grammar."""

import json
import re

import jsonschema
import pytest

from chat_worker.backend import Tokenizer
from chat_worker.constraints.grammar import Grammars
from chat_worker.engine.sampling import ConstraintFailed
from chat_worker.pipe_messages import ConstraintSpec
from common.errors import InvalidRequest
from tests.unit.chat_worker.random_answers import answer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer)


@pytest.mark.parametrize("seed", range(8))
def test_random_logits_under_a_schema_spell_json_that_the_schema_accepts(
    tokenizer: Tokenizer, grammars: Grammars, seed: int
) -> None:
    constraint = grammars.start(ConstraintSpec("json_schema", json.dumps(PERSON)))
    jsonschema.validate(json.loads(answer(tokenizer, constraint, seed)), PERSON)


def test_random_logits_under_a_regex_or_a_lark_grammar_match_it(
    tokenizer: Tokenizer, grammars: Grammars
) -> None:
    regex = r"[A-Z]{2}-\d{3,5}"
    for seed in range(5):
        said = answer(tokenizer, grammars.start(ConstraintSpec("regex", regex)), seed)
        assert re.fullmatch(regex, said)
        lark = 'start: "yes" | "no, " /[a-z]{1,8}/'
        said = answer(tokenizer, grammars.start(ConstraintSpec("grammar", lark)), seed)
        assert re.fullmatch("yes|no, [a-z]{1,8}", said)


def test_a_grammar_in_llama_cpps_notation_is_followed(
    tokenizer: Tokenizer, grammars: Grammars
) -> None:
    gbnf = 'root ::= greeting " " name\ngreeting ::= "hello" | "bye"\nname ::= [a-z]{2,5}\n'
    for seed in range(5):
        said = answer(tokenizer, grammars.start(ConstraintSpec("grammar", gbnf)), seed)
        assert re.fullmatch("(hello|bye) [a-z]{2,5}", said)
    with pytest.raises(InvalidRequest, match="grammar"):
        grammars.start(ConstraintSpec("grammar", "root ::= (("))


def test_answers_of_one_grammar_do_not_share_their_state(
    tokenizer: Tokenizer, grammars: Grammars
) -> None:
    first = grammars.start(ConstraintSpec("regex", "ab"))
    answer(tokenizer, first, 0)
    assert answer(tokenizer, grammars.start(ConstraintSpec("regex", "ab")), 0) == "ab"


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("json_schema", "[1]", "not a JSON object"),
        ("json_schema", "{", "not JSON"),
        ("json_schema", '{"type": "objekt"}', "at #: "),
        (
            "json_schema",
            '{"properties": {"a": {"items": {"contains": {}}}}}',
            "at #/properties/a/items: Unimplemented keys",
        ),
        ("json_schema", '{"properties": {"a": {"unevaluatedItems": false}}}', "unevaluatedItems"),
        ("json_schema", '{"anyOf": 5}', "at #: "),
        ("json_schema", '{"$ref": "http://other/schema"}', "at #: "),
        ("json_schema", '{"items":' * 300 + "{}" + "}" * 300, "recursion"),
        ("json_schema", '{"items":' * 950 + "{}" + "}" * 950, "cannot be enforced"),
        ("regex", "((", "regex"),
        ("regex", "(" * 60_000, "regex"),
        ("regex", "a" * 200_000, "longer than"),
        ("grammar", "start: missing", "missing"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", r"[^\s\S]", "nothing satisfies it"),
        ("regex", "((a{99}){99}){99}", "too many expressions"),
        ("grammar", "start: start", "nothing satisfies it"),
        ("grammar", "", "Empty"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_its_place(
    grammars: Grammars, kind: str, text: str, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(said)) as caught:
        grammars.start(ConstraintSpec(kind, text))  # type: ignore[arg-type]
    assert caught.value.param in ("response_format", "regex", "grammar")
    assert len(caught.value.message) < 600


def test_a_dead_end_in_mid_answer_is_no_complete_answer(
    tokenizer: Tokenizer, grammars: Grammars
) -> None:
    nowhere = 'start: "abcdefghijkl" never\nnever: never "b"'
    with pytest.raises(ConstraintFailed):
        answer(tokenizer, grammars.start(ConstraintSpec("grammar", nowhere)), 0)


def test_ten_thousand_grammars_do_not_pile_up(grammars: Grammars) -> None:
    for number in range(200):
        grammars.start(ConstraintSpec("regex", f"x{number}"))
    assert grammars.n_kept <= 32
