"""Constrains calls that the model may begin: its text is free, but a call must follow a grammar.

The calls of small models are thus complete and valid by construction, while their texts stay free.
"""

from collections.abc import Callable

from chat_worker.backend import Tokenizer
from chat_worker.constraints.grammar import GrammarConstraint
from chat_worker.engine.sampling import ConstraintFailed, LogitsRow


class CallsOnceBegun:
    """An `engine.sampling.TokenConstraint`.

    Args:
        begins: the text that begins calls.
        anywhere: calls may also follow other text.
        start: creates the constraint for what follows `begins`.
        parallel: if False, nothing may follow the first call.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        begins: str,
        start: Callable[[], GrammarConstraint],
        *,
        anywhere: bool,
        parallel: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self._begins = begins.encode()
        self._start = start
        self._anywhere = anywhere
        self._parallel = parallel
        # The end of the text so far, as long as calls may begin in it; None if they no longer may.
        self._written: bytes | None = b""
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
        if not self._anywhere:
            written = written.lstrip()
        before, begun, behind = written.partition(self._begins)
        if begun and (self._anywhere or not before):
            self._hold(behind)
        elif self._anywhere:
            self._written = written[-len(self._begins) :]
        else:
            self._written = written if self._begins.startswith(written) else None

    def _hold(self, behind: bytes) -> None:
        """Begin the grammar.

        Args:
            behind: the text that the latest token has already written after the beginning.
        """
        held = self._start()
        try:
            for token in self._tokenizer.encode(
                behind.decode("utf-8", "replace"), parse_control=True
            ):
                held.accept(token)
        except ConstraintFailed:
            # No call continues in this way, so it stays text.
            self._written = b"" if self._anywhere else None
            return
        self._held = held
        if held.is_complete:
            self._end()

    def _end(self) -> None:
        self._held = None
        self._written = b"" if self._anywhere else None
        self._is_complete = not self._parallel
