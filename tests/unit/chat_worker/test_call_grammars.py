"""Calls held by a grammar, in the notation of every real template: random weights call validly."""

import itertools
import json
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import pytest

from chat_worker.backend import Tokenizer
from chat_worker.constraints.calls_once_begun import Beginnings, CallsOnceBegun
from chat_worker.constraints.grammar import GrammarConstraint, Grammars
from chat_worker.pipe_messages import ConstraintSpec
from chat_worker.text.template import ChatTemplate
from chat_worker.text.tool_calls.calls import Call, Text, Tools
from chat_worker.text.tool_calls.filter import ToolCallFilter
from chat_worker.text.tool_calls.grammars import CallGrammars
from chat_worker.text.tool_calls.notation import PLAIN, Notation, notation_of
from tests.real_templates import real_templates
from tests.unit.chat_worker.random_answers import answer

SEARCH: dict[str, Any] = {
    "type": "object",
    "properties": {
        "q": {"type": "string", "maxLength": 12},
        "n": {"type": "integer"},
        "on": {"type": "boolean"},
        "kind": {"enum": ["web", "news"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        "near": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "required": ["q", "on"],
}
SCHEMAS: dict[str, dict[str, Any]] = {"search": SEARCH, "now": {}, "a.b-c": {"type": "object"}}
WANTED = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}},
    "required": ["sure"],
    "additionalProperties": False,
}
SEEDS = 3


@cache
def notations() -> dict[Notation, str]:
    """Each notation, with a model that uses it."""
    found = {PLAIN: "plain"}
    for name, source in real_templates().items():
        template = ChatTemplate(source, {"bos_token": "", "eos_token": ""})
        found.setdefault(notation_of(*template.traits.written), name)
    return found


def calls_in(said: str, **options: bool) -> tuple[list[Call], str]:
    reader = ToolCallFilter(Tools(SCHEMAS), **options)
    pieces = reader.push(said) + reader.flush()
    calls = [piece for piece in pieces if isinstance(piece, Call)]
    return calls, "".join(piece.text for piece in pieces if isinstance(piece, Text))


def test_the_notations_of_nearly_all_real_templates_are_learnt() -> None:
    assert len(notations()) > 25


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("only", ["", "search"])
def test_random_logits_that_must_call_do_so_in_any_notation(
    tokenizer: Tokenizer, parallel: bool, only: str
) -> None:
    grammars = Grammars(tokenizer)
    for notation, model in notations().items():
        made = CallGrammars(notation, tokenizer)
        text = made.forced(SCHEMAS, only, parallel=parallel)
        constraint = ConstraintSpec("tools", text, has_raw_texts=made.has_raw_texts)
        for seed in range(SEEDS):
            said = answer(tokenizer, grammars.start(constraint), seed)
            calls, rest = calls_in(said)
            assert (len(calls) > 0, rest) == (True, ""), (model, said)
            assert {call.name for call in calls} <= ({only} if only else set(SCHEMAS)), model
            for call in calls:
                jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])


def test_random_logits_that_have_begun_a_call_end_it_validly(tokenizer: Tokenizer) -> None:
    grammars = Grammars(tokenizer)
    n_calls = 0
    for notation, model in notations().items():
        made = CallGrammars(notation, tokenizer)
        text = made.forced(SCHEMAS, "", parallel=False)
        begun = ConstraintSpec("tools", text, has_raw_texts=made.has_raw_texts)
        begins = made.beginnings(SCHEMAS)
        openers = [text.decode() for text in begins.at_start]
        openers += ["Well. " + text.decode() for text in begins.anywhere]
        assert openers, model
        for seed, opener in itertools.product(range(SEEDS), openers):
            said = _after(tokenizer, begins, grammars.start(begun), opener, seed)
            calls, rest = calls_in(said, parallel=False)
            before = "Well. " if opener.startswith("Well. ") else ""
            assert (len(calls), rest) == (1, before), (model, said)
            jsonschema.validate(json.loads(calls[0].arguments), SCHEMAS[calls[0].name])
            n_calls += 1
    assert n_calls > 50


def test_who_begins_no_call_is_free(tokenizer: Tokenizer) -> None:
    made = CallGrammars(PLAIN, tokenizer)

    def never() -> GrammarConstraint:
        raise AssertionError("nothing was begun")

    constraint = CallsOnceBegun(tokenizer, made.beginnings(SCHEMAS), never, parallel=True)
    logits = np.zeros(tokenizer.n_vocab, np.float32)
    for token in tokenizer.encode('Look: [{"name": "x"}]', parse_control=False):
        constraint.mask(logits)
        constraint.accept(token)
    assert not logits.any()
    assert not constraint.is_complete


def test_random_logits_that_may_call_or_answer_do_either_as_it_should_be(
    tokenizer: Tokenizer,
) -> None:
    grammars = Grammars(tokenizer)
    n_calls = n_answers = 0
    for notation, model in notations().items():
        made = CallGrammars(notation, tokenizer)
        text = made.calls_or_answer(SCHEMAS, WANTED, parallel=True)
        constraint = ConstraintSpec("tools", text, has_raw_texts=made.has_raw_texts)
        for seed in range(SEEDS):
            calls, rest = calls_in(answer(tokenizer, grammars.start(constraint), seed))
            assert bool(rest) is not bool(calls), model
            n_calls, n_answers = n_calls + bool(calls), n_answers + bool(rest)
            if rest:
                jsonschema.validate(json.loads(rest), WANTED)
    assert n_calls
    assert n_answers


def _after(
    tokenizer: Tokenizer, begins: Beginnings, start: GrammarConstraint, opener: str, seed: int
) -> str:
    """What is written by a model that was made to write `opener`."""
    constraint = CallsOnceBegun(tokenizer, begins, lambda: start, parallel=False)
    for token in tokenizer.encode(opener, parse_control=True):
        constraint.accept(token)
    return opener + answer(tokenizer, constraint, seed)
