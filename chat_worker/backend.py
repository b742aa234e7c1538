"""What a backend gives to an engine process: a runner, and its tokenizer."""

from dataclasses import dataclass
from typing import Protocol

from chat_worker.engine.disk_prefix_cache import SlotFiles
from chat_worker.engine.runner import ModelRunner
from chat_worker.pipe_messages import Facts


class Tokenizer(Protocol):
    """A model's vocabulary; used by several threads at once."""

    @property
    def n_vocab(self) -> int: ...

    @property
    def prefix(self) -> list[int]:
        """Tokens that begin every prompt (BOS), if the model wants that."""

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids that end a generation."""

    @property
    def control_strings(self) -> list[str]:
        """Texts of control tokens, which a user must not be able to type."""

    @property
    def special_texts(self) -> dict[str, str]:
        """`bos_token` and `eos_token`, as templates call them."""

    def encode(self, text: str, *, parse_control: bool) -> list[int]:
        """Token ids of `text`, nothing added.

        Args:
            parse_control: read control tokens' texts as these tokens, not as plain text.
        """

    def piece(self, token: int, *, show_control: bool = False) -> bytes:
        """The token's bytes; of control tokens only if asked for."""


@dataclass(frozen=True)
class Backend:
    """A loaded model."""

    runner: ModelRunner
    tokenizer: Tokenizer
    template: str | None
    facts: Facts
    # Whether and how its slots are written to files.
    slot_files: SlotFiles | None = None
