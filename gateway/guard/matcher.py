"""Finds the rules that a text breaks, in time that is linear in its length (RE2).

All rules are one expression: a text that breaks none is searched once. google-re2 is imported here
only, and this module only with a policy.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import re2

from gateway.guard.folding import Originals, fold
from gateway.guard.policy import Rule, WrongPolicy

# Of each expression, as much as texts made for it can use up: with less, 5,000 words beside some
# patterns take a hundred times longer.
_MAX_MEMORY_BYTES = 64 << 20
# Of one rule in one text, so that a text made of matches costs little. What follows is one match.
_MOST_MATCHES = 1000
# Letters of scripts that are written without spaces between words.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_NO_LETTER = rf"[^\p{{L}}\p{{M}}\p{{N}}_]|{_UNSPACED}"


class Match(NamedTuple):
    """A part of a text that a rule does not want.

    Args:
        start, end: in the text as it was before it was folded.
        at_end: more text might change the match.
    """

    start: int
    end: int
    rule: Rule
    at_end: bool


class CompiledRule:
    """A rule's expressions.

    Raises:
        WrongPolicy: RE2 does not take them.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        patterns = [_in_folded_form(rule, pattern) for pattern in rule.patterns]
        words = _words(rule)
        self.expressions = [*patterns, *words]
        # With the number of the group that is the match.
        self._parts = [(_compiled(rule, text), 0) for text in patterns]
        self._parts += [(_compiled(rule, text), 1) for text in words]
        if not self._parts:
            raise WrongPolicy(f"rule {rule.name} has neither words nor patterns")

    def spans(self, folded: bytes) -> Iterator[tuple[int, int, bool]]:
        """Start and end of each match, in bytes, and whether more text might change it."""
        for part, group in self._parts:
            at, n_found = 0, 0
            while (found := part.search(folded, at)) is not None:
                start, end = found.span(group)
                if n_found == _MOST_MATCHES:
                    end = len(folded)
                if start < end:
                    n_found += 1
                    yield start, end, found.end() == len(folded)
                # What ends a word may begin the next one.
                at = max(end, at + 1)
                if at >= len(folded):
                    break


class Matcher:
    """Some rules, as one."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._rules = rules
        text = "|".join(f"(?:{one})" for rule in rules for one in rule.expressions)
        self._any = _compiled(rules[0].rule, text) if rules else None

    def __bool__(self) -> bool:
        return bool(self._rules)

    def finds_any(self, text: str) -> bool:
        return self._any is not None and self._any.search(fold(text).encode()) is not None

    def find(self, text: str) -> list[Match]:
        """All matches of all rules, the ones that begin first before others."""
        if self._any is None:
            return []
        folded = fold(text).encode()
        if self._any.search(folded) is None:
            return []
        original, offsets = Originals(text), _CharacterOffsets(folded)
        found = [
            Match(*original.span(offsets.of(start), offsets.of(end)), rule.rule, at_end)
            for rule in self._rules
            for start, end, at_end in rule.spans(folded)
        ]
        return sorted(found, key=lambda match: match[:2])


class _CharacterOffsets:
    """Numbers of characters by numbers of bytes of UTF-8, which are asked for mostly in order."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._is_ascii = encoded.isascii()
        self._latest = (0, 0)

    def of(self, n_bytes: int) -> int:
        if self._is_ascii:
            return n_bytes
        at, n_chars = self._latest
        if n_bytes < at:
            at = n_chars = 0
        n_chars += len(self._encoded[at:n_bytes].decode())
        self._latest = (n_bytes, n_chars)
        return n_chars


def forget_compiled() -> None:
    """Free the expressions of former policies, which re2 keeps."""
    re2.purge()


def redacted(
    text: str, matches: Sequence[Match], written: Callable[[str], str] = lambda text: text
) -> str:
    """The text with the rules' replacements where they match.

    Args:
        written: a replacement as the text has to have it.
    """
    pieces, at = [], 0
    for match in matches:
        if match.start >= at:
            pieces += [text[at : match.start], written(match.rule.replacement)]
        at = max(at, match.end)
    return "".join([*pieces, text[at:]])


def _words(rule: Rule) -> list[str]:
    """Expressions for the words of a rule, whose one group is the word."""
    by_edges: dict[tuple[str, str], list[str]] = {}
    # In reverse: of two words that begin alike the longer one counts, and RE2 shares beginnings.
    for word in sorted({fold(word).strip() for word in rule.words}, reverse=True):
        if not word:
            raise WrongPolicy(f"rule {rule.name} has a word that nobody sees")
        edges = _edge(word[0], "^"), _edge(word[-1], "$")
        by_edges.setdefault(edges, []).append(r"\s+".join(map(re2.escape, word.split())))
    return [f"{before}({'|'.join(w)}){after}" for (before, after), w in by_edges.items()]


def _edge(char: str, end: str) -> str:
    """What stands before or after a word: where it ends in a letter, no other letter."""
    is_whole = char.isalnum() and not re2.fullmatch(_UNSPACED, char)
    return f"(?:{end}|{_NO_LETTER})" if is_whole else ""


def _in_folded_form(rule: Rule, pattern: str) -> str:
    if unicodedata.normalize("NFKC", pattern) != pattern:
        raise WrongPolicy(
            f"rule {rule.name}: the pattern {pattern!r} can never match: texts are searched in the "
            f"form NFKC, in which it reads {unicodedata.normalize('NFKC', pattern)!r}"
        )
    return pattern


def _compiled(rule: Rule, text: str) -> "re2._Regexp":
    options = re2.Options()
    # As texts are folded; an expression may have capitals all the same.
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = _MAX_MEMORY_BYTES
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise WrongPolicy(f"rule {rule.name}: {reason}") from None
    if compiled.search(b"") is not None:
        raise WrongPolicy(f"rule {rule.name}: {text[:80]!r} matches where there is no text")
    return compiled
