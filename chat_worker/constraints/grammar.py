"""Answers that follow a JSON schema, a regular expression or a Lark grammar, through llguidance.

What llguidance cannot enforce is refused with the place of the fault; it is never decoded without
the constraint. Grammars come from clients, so their size and the work that they cause are bounded.
"""

import threading
from collections import OrderedDict
from functools import cached_property

import llguidance
import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from chat_worker.backend import Tokenizer
from chat_worker.constraints.compile import LIMITS, PARAMS, grammar_of
from chat_worker.constraints.numbers import NumberEnd, continues_number
from chat_worker.constraints.refusals import refusal
from chat_worker.engine.sampling import ConstraintFailed, LogitsRow
from chat_worker.pipe_messages import ConstraintSpec
from common.error_texts import ErrorText
from common.errors import BackendFailure, InvalidRequest

MAX_GRAMMAR_CHARS = 128 * 1024
# Grammars of calls are created by this server from the schemas of all tools.
MAX_CALLS_CHARS = 1024 * 1024
MAX_KEPT_GRAMMARS = 32
JSON_KINDS = ("json_object", "json_schema", "tools")


class GrammarConstraint:
    """One answer's state in a grammar; an `engine.sampling.TokenConstraint`.

    Args:
        tokenizer: the tokenizer of the answer's model.
        continues_number: for each token, whether it continues a number; None if the answer is not
            JSON.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        tokenizer: Tokenizer,
        continues_number: NDArray[np.bool_] | None = None,
    ) -> None:
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._words = np.zeros((tokenizer.n_vocab + 31) // 32, np.int32)
        self._continues_number = continues_number
        self._number_end = NumberEnd()

    @property
    def is_complete(self) -> bool:
        return self._matcher.is_stopped()

    def mask(self, logits: LogitsRow) -> None:
        np.putmask(logits, self._forbidden(), -np.inf)

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise ConstraintFailed(self._matcher.get_error())
        if self._continues_number is not None:
            self._number_end.follow(self._tokenizer.piece(token))

    def rehearse(self) -> None:
        """Take two steps as an answer would, to detect a grammar that cannot be followed.

        Raises:
            ConstraintFailed: no token is allowed, or the grammar is too complex.
        """
        self.accept(int(self._forbidden().argmin()))
        if not self.is_complete:
            self._forbidden()

    def _forbidden(self) -> NDArray[np.bool_]:
        words = self._words
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if self._matcher.is_error():
            # Without this check, the mask of such a state would allow the end of the answer.
            raise ConstraintFailed(self._matcher.get_error())
        n_vocab = self._tokenizer.n_vocab
        bits = np.unpackbits((~words).view(np.uint8), count=n_vocab, bitorder="little")
        forbidden = bits.view(np.bool_)
        if self._continues_number is not None and self._number_end.must_come:
            without = forbidden | self._continues_number
            # Within an exponent only digits are allowed.
            return forbidden if without.all() else without
        return forbidden


class Grammars:
    """Compiles constraints for one vocabulary; several threads may use it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Only one thread compiles at a time, as all share the cache; each compilation is bounded.
        self._compiling = threading.Lock()
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()
        self._continues_number: NDArray[np.bool_] | None = None

    @property
    def n_kept(self) -> int:
        """The number of compiled grammars in the cache."""
        return len(self._kept)

    def start(self, constraint: ConstraintSpec) -> GrammarConstraint:
        """The constraint of a new answer.

        Raises:
            InvalidRequest: the constraint is malformed, not supported or too complex; the error
                states the place.
        """
        param = PARAMS[constraint.kind]
        most = MAX_CALLS_CHARS if constraint.kind == "tools" else MAX_GRAMMAR_CHARS
        if len(constraint.text) > most:
            raise InvalidRequest(ErrorText("grammar_too_long", most_ki=most // 1024), param=param)
        try:
            grammar = grammar_of(constraint, param)
        except RecursionError:
            raise InvalidRequest(ErrorText("schema_too_deep"), param=param) from None
        with self._compiling:
            matcher = self._kept.get(grammar)
            if matcher is None:
                matcher = self._compiled(constraint, grammar)
                self._kept[grammar] = matcher
                if len(self._kept) > MAX_KEPT_GRAMMARS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(grammar)
            return self._begin(matcher, constraint)

    def _compiled(self, constraint: ConstraintSpec, grammar: str) -> LLMatcher:
        param = PARAMS[constraint.kind]
        matcher = LLMatcher(self._vocabulary, grammar, log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise refusal(constraint, param, matcher.get_error())
        try:
            self._begin(matcher, constraint).rehearse()
        except ConstraintFailed as error:
            raise refusal(constraint, param, str(error)) from error
        return matcher

    def _begin(self, matcher: LLMatcher, constraint: ConstraintSpec) -> GrammarConstraint:
        is_json = constraint.kind in JSON_KINDS and not constraint.has_raw_texts
        return GrammarConstraint(
            matcher.deep_copy(), self._tokenizer, self._continues_number if is_json else None
        )

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        """Created by the first constrained request: takes up to a second and tens of megabytes."""
        source = _GrammarTokenizer(self._tokenizer)
        built = LLTokenizer(
            llguidance.TokenizerWrapper(source),
            n_vocab=self._tokenizer.n_vocab,
            eos_token=sorted(self._tokenizer.end_tokens),
        )
        self._continues_number = continues_number(source.tokens)
        source.tokens.clear()  # copied; the wrapper keeps `source` for encoding
        return built


class _GrammarTokenizer:
    """Our tokenizer with the interface that llguidance's wrapper expects."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = range(tokenizer.n_vocab)
        if not tokenizer.end_tokens:
            raise BackendFailure(ErrorText("no_end_token"))
        self.eos_token_id = min(tokenizer.end_tokens)
        self.bos_token_id = tokenizer.prefix[0] if tokenizer.prefix else None
        # Control tokens, which text never spells, have no text unless `show_control` is set.
        texts = [tokenizer.piece(i) for i in ids]
        unseen = [i for i in ids if not texts[i]]
        shown = {i: tokenizer.piece(i, show_control=True) for i in unseen}
        self.special_token_ids = [i for i in unseen if shown[i]]
        self.tokens = [text or shown[i] for i, text in enumerate(texts)]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text.decode("utf-8", "replace"), parse_control=False)
