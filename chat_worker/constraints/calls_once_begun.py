"""Constrains calls that the model may begin: its text is free, but a call must follow a grammar.

The calls of small models are thus complete and valid by construction, while their texts stay free.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chat_worker.backend import Tokenizer
from chat_worker.constraints.grammar import GrammarConstraint
from chat_worker.engine.sampling import ConstraintFailed, LogitsRow


@dataclass(frozen=True)
class Beginnings:
    """The texts that begin calls, each with the text by which the grammar begins.

    Args:
        at_start: begin calls only at the beginning of a reply.
        anywhere: begin calls also after other text.
    """

    at_start: Mapping[bytes, bytes] = field(default_factory=dict)
    anywhere: Mapping[bytes, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.at_start or self.anywhere)


class CallsOnceBegun:
    """An `engine.sampling.TokenConstraint`.

    Args:
        begins: the texts that begin calls.
        start: creates the constraint of calls, from their beginning on.
        parallel: if False, nothing may follow the first call.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        begins: Beginnings,
        start: Callable[[], GrammarConstraint],
        *,
        parallel: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self._begins = begins
        self._start = start
        self._parallel = parallel
        self._longest = max(map(len, begins.anywhere), default=0)
        # The end of the text so far, as long as calls may begin in it; None if they no longer may.
        self._written: bytes | None = b""
        self._is_at_start = bool(begins.at_start)
        self._held: GrammarConstraint | None = None
        self._is_complete = False

    @property
    def is_complete(self) -> bool:
        return self._is_complete

    def mask(self, logits: LogitsRow) -> None:
        if self._held is not None:
            self._held.mask(logits)

    def accept(self, token: int) -> None:
        if self._held is None:
            self._look(token)
            return
        self._held.accept(token)
        if self._held.is_complete:
            self._end()

    def _look(self, token: int) -> None:
        """Look for the beginning of calls in the text up to `token`."""
        if self._written is None or token in self._tokenizer.end_tokens:
            return
        written = self._written + self._tokenizer.piece(token, show_control=True)
        calls = self._calls_at_start(written) or self._calls_within(written)
        if calls:
            self._hold(calls)
        elif self._is_at_start:
            self._written = written
        else:
            self._go_on(written[-self._longest :])

    def _calls_at_start(self, written: bytes) -> bytes:
        """Return the calls with which `written` begins, as the grammar has to read them."""
        if not self._is_at_start:
            return b""
        begun = written.lstrip()
        for text, read in self._begins.at_start.items():
            if begun.startswith(text):
                return read + begun[len(text) :]
        self._is_at_start = any(text.startswith(begun) for text in self._begins.at_start)
        return b""

    def _calls_within(self, written: bytes) -> bytes:
        for text, read in self._begins.anywhere.items():
            _, begun, behind = written.partition(text)
            if begun:
                return read + behind
        return b""

    def _hold(self, calls: bytes) -> None:
        """Begin the grammar with what has already been written of the calls."""
        held = self._start()
        self._is_at_start = False
        try:
            for token in self._tokenizer.encode(
                calls.decode("utf-8", "replace"), parse_control=True
            ):
                held.accept(token)
        except ConstraintFailed:
            # No call continues in this way, so it stays text.
            self._go_on(b"")
            return
        self._held = held
        if held.is_complete:
            self._end()

    def _end(self) -> None:
        self._held = None
        self._go_on(b"")
        self._is_complete = not self._parallel

    def _go_on(self, written: bytes) -> None:
        """Look for more calls behind `written`, if calls may follow other text."""
        self._written = written if self._begins.anywhere else None
