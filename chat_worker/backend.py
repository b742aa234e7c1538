"""What a backend provides to an engine process: a runner and its tokenizer."""

from dataclasses import dataclass
from typing import Protocol

from chat_worker.engine.runner import ModelRunner, SlotStates
from chat_worker.pipe_messages import Facts
from chat_worker.text.infill import InfillTokens


class Tokenizer(Protocol):
    """A model's vocabulary; several threads use it at once."""

    @property
    def n_vocab(self) -> int: ...

    @property
    def prefix(self) -> list[int]:
        """The tokens that begin every prompt (BOS); empty if the model expects none."""

    @property
    def end_tokens(self) -> frozenset[int]:
        """The ids that end a generation."""

    @property
    def control_strings(self) -> list[str]:
        """The spellings of control tokens, which a user's text must not produce."""

    @property
    def special_texts(self) -> dict[str, str]:
        """The texts of `bos_token` and `eos_token`, as templates name them."""

    @property
    def infill(self) -> InfillTokens | None:
        """The tokens around a text whose middle is missing; None if the model has none."""

    def encode(self, text: str, *, parse_control: bool) -> list[int]:
        """The token ids of `text`, without any added tokens.

        Args:
            parse_control: spellings of control tokens become these tokens instead of plain text.
        """

    def piece(self, token: int, *, show_control: bool = False) -> bytes:
        """The token's bytes; those of a control token only if `show_control` is set."""


@dataclass(frozen=True)
class Backend:
    """A loaded model."""

    runner: ModelRunner
    tokenizer: Tokenizer
    template: str | None
    facts: Facts
    # Copies its slots for the prefix cache; None if it cannot.
    states: SlotStates | None = None
