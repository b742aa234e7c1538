"""A text that comes in pieces, of which only leaves what no rule can still want."""

from dataclasses import dataclass, field

from gateway.guard.folding import begins_anew, fold, without_ignorable
from gateway.guard.matcher import Match, Matcher, redacted
from gateway.guard.policy import Rule

# More waits only where characters that nobody sees pad a text.
_MOST_PER_FOLDED = 8


@dataclass(frozen=True)
class Released:
    """What may leave.

    Args:
        text: with redactions.
        rules: those that matched in it.
        blocked: the rule that ends the text here; nothing of the text leaves any more.
    """

    text: str = ""
    rules: list[Rule] = field(default_factory=list)
    blocked: Rule | None = None


class HeldText:
    """
    Args:
        hold_back: how many characters, as rules see them, wait for what comes next. A match that
            is not longer is found before any of it has left.
    """

    def __init__(self, matcher: Matcher, hold_back: int) -> None:
        self._matcher = matcher
        self._hold_back = hold_back
        # The end of what has left, before which no word can be a whole one, and what waits.
        self._text = ""
        self._n_left = 0
        self._was_cut = False

    def push(self, text: str) -> Released:
        """Take the next piece."""
        self._text += text
        return self._release(self._old_enough())

    def end(self) -> Released:
        """Release the rest."""
        return self._release(len(self._text), is_end=True)

    def _release(self, until: int, *, is_end: bool = False) -> Released:
        decided: list[Match] = []
        waiting: list[Match] = []
        for match in filter(self._is_new, self._matcher.find(self._text)):
            may_grow = match.at_end and match.end - match.start <= self._hold_back
            (waiting if may_grow and not is_end else decided).append(match)
        block = next((match for match in decided if match.rule.action == "block"), None)
        if block is not None:
            until = block.start
        until = min([until, *(match.start for match in waiting)])
        return self._leave(until, decided, block)

    def _leave(self, until: int, matches: list[Match], block: Match | None) -> Released:
        """Let the text leave up to `until`, and to the end of what is redacted there."""
        redactions = [m for m in matches if m.rule.action == "redact" and m.start < until]
        until = max([until, self._n_left, *(m.end for m in redactions)])
        flags = [m for m in matches if m.rule.action == "flag" and m.end <= until]
        first = self._n_left
        moved = [m._replace(start=max(m.start - first, 0), end=m.end - first) for m in redactions]
        text = redacted(self._text[first:until], moved)
        self._forget_before(until)
        rules = [m.rule for m in (*redactions, *flags)]
        return Released(text, rules, block.rule if block else None)

    def _is_new(self, match: Match) -> bool:
        """Whether it is about text that has not left, and no half word at the cut."""
        return match.end > self._n_left and (match.start > 0 or not self._was_cut)

    def _old_enough(self) -> int:
        """Where the text begins that has to wait."""
        n = self._hold_back
        while n < len(self._text) and len(fold(self._text[-n:])) < self._hold_back:
            n *= 2
        begin = max(len(self._text) - n, self._n_left)
        if n > _MOST_PER_FOLDED * self._hold_back:
            self._text = self._text[:begin] + without_ignorable(self._text[begin:])
        return self._boundary(begin)

    def _forget_before(self, left: int) -> None:
        cut = self._boundary(left - self._hold_back)
        self._was_cut = self._was_cut or cut > 0
        self._text = self._text[cut:]
        self._n_left = left - cut

    def _boundary(self, at: int) -> int:
        """The nearest place up to `at` where the text can be cut without changing its fold."""
        while 0 < at < len(self._text) and not begins_anew(self._text, at):
            at -= 1
        return max(at, 0)
