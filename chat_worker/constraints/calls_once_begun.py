"""A model that may call is free until it begins a call; from there on a grammar holds it.

So the calls of small models are whole and valid by construction, and their texts are their own.
"""

from collections.abc import Callable

from chat_worker.backend import Tokenizer
from chat_worker.constraints.grammar import GrammarConstraint
from chat_worker.engine.sampling import ConstraintFailed, LogitsRow


class CallsOnceBegun:
    """An `engine.sampling.Constraint`.

    Args:
        begins: the text at which calls have begun.
        anywhere: also behind other text.
        start: the grammar of what follows that text.
        parallel: False: nothing follows a call.
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
        # The end of what was written, as long as calls may still begin in it; None: they may not.
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
        if self._written is None or token in self._tokenizer.end_tokens:
            return
        self._written += self._tokenizer.piece(token, show_control=True)
        begun = self._written.lstrip() if not self._anywhere else self._written
        at = begun.find(self._begins) if self._anywhere else 0
        if self._anywhere and at < 0:
            self._written = begun[-len(self._begins) :]
        elif begun[at:].startswith(self._begins):
            self._hold(begun[at + len(self._begins) :])
        elif not self._begins.startswith(begun):
            self._written = None

    def _hold(self, behind: bytes) -> None:
        """
        Args:
            behind: what the latest token wrote behind the beginning already.
        """
        held = self._start()
        try:
            for token in self._tokenizer.encode(
                behind.decode("utf-8", "replace"), parse_control=True
            ):
                held.accept(token)
        except ConstraintFailed:
            # It goes on as no call does: then it is text.
            self._written = b"" if self._anywhere else None
            return
        self._held = held
        if held.is_complete:
            self._end()

    def _end(self) -> None:
        self._held = None
        self._written = b"" if self._anywhere else None
        self._is_complete = not self._parallel
