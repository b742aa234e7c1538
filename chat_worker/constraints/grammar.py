"""Answers that follow a JSON schema, a regular expression or a Lark grammar, through llguidance.

It fails closed: what llguidance cannot enforce is refused with the place that is at fault, never
decoded unconstrained. Grammars come from strangers, so their size and the work they may cause are
bounded.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import llguidance
import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from chat_worker.backend import Tokenizer
from chat_worker.constraints.schemas import closed
from chat_worker.engine.sampling import ConstraintFailed, LogitsRow
from chat_worker.pipe_messages import ConstraintSpec
from common.errors import BackendFailure, InvalidRequest

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_GRAMMAR_CHARS = 128 * 1024
MAX_KEPT_GRAMMARS = 32
MAX_PLACES = 500
# llguidance's word for a state in which no token is allowed.
DEAD_END = "NoExtension"
# About 20 ms to build a lexer, 15 ms and 3 ms for a mask (llguidance's own figures).
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
# As json.dumps writes it, and as models learnt it. Free white space would let a model that is
# unsure write line breaks until its tokens are used up.
JSON_LAYOUT: "JsonCompileOptions" = {
    "whitespace_flexible": False,
    "key_separator": ": ",
    "item_separator": ", ",
}
PARAMS = {
    "json_object": "response_format",
    "json_schema": "response_format",
    "regex": "regex",
    "grammar": "grammar",
    "tools": "tools",
}
# Keywords of a schema under which other schemas lie: one, a list of them, or one by name.
INNER = ("items", "additionalProperties", "not", "contains", "if", "then", "else")
INNER_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
INNER_NAMED = ("properties", "patternProperties", "$defs", "definitions")


class GrammarConstraint:
    """One answer's state in a grammar; an `engine.sampling.Constraint`."""

    def __init__(self, matcher: LLMatcher, n_vocab: int) -> None:
        self._matcher = matcher
        self._words = np.zeros((n_vocab + 31) // 32, np.int32)
        self._n_vocab = n_vocab

    @property
    def is_complete(self) -> bool:
        return self._matcher.is_stopped()

    def mask(self, logits: LogitsRow) -> None:
        np.putmask(logits, self._forbidden(), -np.inf)

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise ConstraintFailed(self._matcher.get_error())

    def rehearse(self) -> None:
        """Go two steps as an answer might, to find out what cannot be followed before one begins.

        Raises:
            ConstraintFailed: it leads nowhere or is too complex.
        """
        self.accept(int(self._forbidden().argmin()))
        if not self.is_complete:
            self._forbidden()

    def _forbidden(self) -> NDArray[np.bool_]:
        words = self._words
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if self._matcher.is_error():
            # The mask of a dead end allows the end, as if the answer were complete.
            raise ConstraintFailed(self._matcher.get_error())
        bits = np.unpackbits((~words).view(np.uint8), count=self._n_vocab, bitorder="little")
        return bits.view(np.bool_)


class Grammars:
    """Compiles constraints for one vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()

    def start(self, constraint: ConstraintSpec) -> GrammarConstraint:
        """A fresh answer under `constraint`.

        Raises:
            InvalidRequest: it is malformed, not supported or too complex; says where.
        """
        param = PARAMS[constraint.kind]
        if len(constraint.text) > MAX_GRAMMAR_CHARS:
            raise InvalidRequest(
                f"longer than {MAX_GRAMMAR_CHARS // 1024} Ki characters", param=param
            )
        try:
            grammar = _grammar(constraint, param)
        except RecursionError:
            raise InvalidRequest("the schema cannot be enforced: too deep", param=param) from None
        matcher = self._kept.get(grammar)
        if matcher is None:
            matcher = LLMatcher(self._vocabulary, grammar, log_level=0, limits=LIMITS)
            if matcher.is_error():
                raise _refusal(constraint, param, matcher.get_error())
            try:
                self._begin(matcher).rehearse()
            except ConstraintFailed as error:
                raise _refusal(constraint, param, str(error)) from error
            self._kept[grammar] = matcher
            if len(self._kept) > MAX_KEPT_GRAMMARS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(grammar)
        return self._begin(matcher)

    def _begin(self, matcher: LLMatcher) -> GrammarConstraint:
        return GrammarConstraint(matcher.deep_copy(), self._tokenizer.n_vocab)

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        """Made by the first constrained request: it costs up to a second and tens of megabytes."""
        source = _GrammarTokenizer(self._tokenizer)
        built = LLTokenizer(
            llguidance.TokenizerWrapper(source),
            n_vocab=self._tokenizer.n_vocab,
            eos_token=sorted(self._tokenizer.end_tokens),
        )
        source.tokens.clear()  # copied; the wrapper keeps `source` to encode with
        return built


def answer_schema(constraint: ConstraintSpec) -> dict[str, Any]:
    """What an answer in JSON must follow.

    Raises:
        InvalidRequest: that is no JSON object itself.
    """
    if constraint.kind == "json_object":
        return {"type": "object"}
    return closed(_parsed(constraint.text, PARAMS[constraint.kind]))


class _GrammarTokenizer:
    """Our tokenizer as llguidance's wrapper wants it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = range(tokenizer.n_vocab)
        if not tokenizer.end_tokens:
            raise BackendFailure("the model has no end token, so no grammar can end its answer")
        self.eos_token_id = min(tokenizer.end_tokens)
        self.bos_token_id = tokenizer.prefix[0] if tokenizer.prefix else None
        # Control tokens, which text never spells, are empty unless they are to be shown.
        texts = [tokenizer.piece(i) for i in ids]
        unseen = [i for i in ids if not texts[i]]
        shown = {i: tokenizer.piece(i, show_control=True) for i in unseen}
        self.special_token_ids = [i for i in unseen if shown[i]]
        self.tokens = [text or shown[i] for i, text in enumerate(texts)]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text.decode("utf-8", "replace"), parse_control=False)


def _grammar(constraint: ConstraintSpec, param: str) -> str:
    match constraint.kind:
        case "regex":
            return LLMatcher.grammar_from_regex(constraint.text)
        case "grammar" | "tools":
            return LLMatcher.grammar_from_lark(constraint.text)
        case "json_object" | "json_schema":
            return _json_grammar(answer_schema(constraint))


def _json_grammar(schema: dict[str, Any]) -> str:
    return LLMatcher.grammar_from_json_schema(schema, overrides=JSON_LAYOUT)


def _parsed(text: str, param: str) -> dict[str, Any]:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the schema is not JSON", param=param) from error
    if not isinstance(schema, dict):
        raise InvalidRequest("the schema is not a JSON object", param=param)
    return schema


def _refusal(constraint: ConstraintSpec, param: str, reason: str) -> InvalidRequest:
    reason = _in_short(reason)
    if constraint.kind != "json_schema":
        return InvalidRequest(f"the {constraint.kind} cannot be enforced: {reason}", param=param)
    try:
        place, reason = _culprit(_parsed(constraint.text, param), reason)
    except RecursionError:
        place, reason = "#", "nested too deeply"
    return InvalidRequest(
        f"the schema cannot be enforced at {place}: {reason}",
        param=param,
        suggestions=("leave that keyword out", "use another keyword that llguidance supports"),
    )


def _in_short(complaint: str) -> str:
    """One line of it: what is wrong with a regular expression comes last, drawings of it before."""
    if DEAD_END in complaint:
        return "nothing satisfies it"
    if "coerce_one_of" in complaint:
        return "oneOf is supported where its schemas plainly exclude each other; else use anyOf"
    lines = complaint.split("\n")
    found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (found[-1] if found else lines[0])[:200]


def _culprit(schema: dict[str, Any], reason: str) -> tuple[str, str]:
    """The deepest inner schema that fails by itself, and why; the root if none does."""
    place = "#"
    n_left = MAX_PLACES
    found = True
    while found:
        found = False
        for name, inner in _inner_schemas(schema):
            n_left -= 1
            if n_left < 0:
                break
            complaint = LLMatcher.validate_grammar(_json_grammar(inner), limits=LIMITS)
            # A reference is to the root, which the inner schema has not got.
            if complaint and "$ref" not in json.dumps(inner):
                place, reason = f"{place}/{name}", _in_short(complaint)
                schema, found = inner, True
                break
    return place[:200], reason


def _inner_schemas(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in INNER:
        if isinstance(inner := schema.get(key), dict):
            yield key, inner
    for key in INNER_LISTS:
        listed = schema.get(key)
        for index, inner in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(inner, dict):
                yield f"{key}/{index}", inner
    for key in INNER_NAMED:
        named = schema.get(key)
        for name, inner in named.items() if isinstance(named, dict) else ():
            if isinstance(inner, dict):
                yield f"{key}/{name}", inner
