"""llama.cpp's tokenizer as our `Tokenization`."""

import ctypes
from collections.abc import Sequence
from typing import Any

from embed_worker.encoders.prompted_texts import PromptedTexts
from embed_worker.encoders.tokens import PROBE, Tokenization, special_tokens

# The special tokens around a text, and what some vocabularies put before it.
SPARE_TOKENS = 16


class LlamaTokenization(Tokenization):
    """The tokenization of a loaded model."""

    def __init__(self, native: Any, model: Any, *, max_tokens: int) -> None:
        self._native = native
        self._vocab = native.llama_model_get_vocab(model)
        # These files have no prompts.
        self._prompts = PromptedTexts(self.encode_plain, self.encode_plain, frozenset())
        self._before, self._after = special_tokens(
            self._ids(PROBE, add_special=False), self._ids(PROBE, add_special=True)
        )
        self.max_tokens = max_tokens
        self.n_vocab = int(native.llama_vocab_n_tokens(self._vocab))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        texts = (self._native.llama_vocab_get_text(self._vocab, token) for token in ids)
        return [text.decode("utf-8", "replace") for text in texts]

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        return list(self._before), list(self._after)

    def encode_plain(self, texts: list[str]) -> list[list[int]]:
        """Return token ids without special tokens, also of texts that spell them."""
        return [self._ids(text, add_special=False) for text in texts]

    def encode_special(self, text: str) -> list[int]:
        """Return token ids in which special tokens that the text spells are such."""
        return self._ids(text, add_special=False, parse_special=True)

    def _ids(self, text: str, *, add_special: bool, parse_special: bool = False) -> list[int]:
        encoded = text.encode("utf-8", "replace")
        capacity = len(encoded) + SPARE_TOKENS
        while True:
            buffer = (ctypes.c_int32 * capacity)()
            n_tokens = self._native.llama_tokenize(
                self._vocab, encoded, len(encoded), buffer, capacity, add_special, parse_special
            )
            if n_tokens >= 0:
                return buffer[:n_tokens]
            capacity = -n_tokens
