"""Which of many kept prefixes serves a sequence, and which ones a new prefix makes redundant."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from chat_worker.engine.slots import MAX_LOST_TOKENS, common_prefix


class Prefix(Protocol):
    """Tokens whose keys and values are kept somewhere, for the sequences of one salt."""

    @property
    def tokens(self) -> list[int]: ...

    @property
    def salt(self) -> str: ...


P = TypeVar("P", bound=Prefix)


@dataclass(frozen=True, eq=False)
class HeldPrefix:
    """A prefix in memory.

    Args:
        state: what a backend's slot held, as its `SlotStates` wrote it.
    """

    tokens: list[int]
    salt: str
    state: memoryview


def longest(
    prefixes: Iterable[P], tokens: list[int], salt: str, *, whole: bool
) -> tuple[P | None, int]:
    """The prefix that saves most of the computation of `tokens`, and how many tokens it saves.

    The last token is always computed, because its logits are needed.

    Args:
        whole: the backend cannot use a part of a prefix.
    """
    best, n_best = None, 0
    for prefix in prefixes:
        if prefix.salt != salt:
            continue
        n_usable = min(common_prefix(prefix.tokens, tokens), len(tokens) - 1)
        if n_usable > n_best and not (whole and n_usable < len(prefix.tokens)):
            best, n_best = prefix, n_usable
    return best, n_best


def covering(prefixes: Iterable[P], tokens: list[int], salt: str, *, whole: bool) -> P | None:
    """A prefix that makes keeping `tokens` redundant."""
    for prefix in prefixes:
        is_useful = prefix.tokens == tokens if whole else _is_redundant(tokens, prefix.tokens)
        if prefix.salt == salt and is_useful:
            return prefix
    return None


def outdated(prefixes: Iterable[P], tokens: list[int], salt: str, *, whole: bool) -> list[P]:
    """The prefixes that `tokens` make redundant, such as the same conversation a turn earlier."""
    if whole:
        return []
    return [p for p in prefixes if p.salt == salt and _is_redundant(p.tokens, tokens)]


def _is_redundant(tokens: list[int], other: list[int]) -> bool:
    """True if the longer `other` begins with `tokens`, or with nearly all of them."""
    if len(tokens) > len(other):
        return False
    n_common = common_prefix(tokens, other)
    return len(tokens) - n_common <= min(MAX_LOST_TOKENS, n_common)
