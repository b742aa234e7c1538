"""llama.cpp's tokenizer as our `Tokenizer`."""

import ctypes
from functools import cached_property
from typing import Any

from chat_worker.text.infill import InfillTokens
from common.error_texts import ErrorText
from common.errors import InvalidRequest

MAX_TEXT_BYTES = 16 * 1024 * 1024


class LlamaTokenizer:
    """Encodes and decodes with a loaded model's vocabulary."""

    def __init__(self, native: Any, model: Any) -> None:
        self._native = native
        self._vocab = native.llama_model_get_vocab(model)
        self.n_vocab = int(native.llama_vocab_n_tokens(self._vocab))
        self._pieces: dict[tuple[int, bool], bytes] = {}

    @cached_property
    def prefix(self) -> list[int]:
        native, vocab = self._native, self._vocab
        bos = int(native.llama_vocab_bos(vocab))
        return [bos] if native.llama_vocab_get_add_bos(vocab) and bos >= 0 else []

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        is_end = self._native.llama_vocab_is_eog
        return frozenset(t for t in range(self.n_vocab) if is_end(self._vocab, t))

    @cached_property
    def control_strings(self) -> list[str]:
        is_control = self._native.llama_vocab_is_control
        controls = (t for t in range(self.n_vocab) if is_control(self._vocab, t))
        texts = (self.piece(token, show_control=True) for token in controls)
        return [text.decode("utf-8", "replace") for text in texts if text]

    @cached_property
    def special_texts(self) -> dict[str, str]:
        native = self._native
        ids = {
            "bos_token": native.llama_vocab_bos(self._vocab),
            "eos_token": native.llama_vocab_eos(self._vocab),
        }
        return {
            name: self.piece(int(token), show_control=True).decode("utf-8", "replace")
            if token >= 0
            else ""
            for name, token in ids.items()
        }

    @cached_property
    def infill(self) -> InfillTokens | None:
        native, vocab = self._native, self._vocab
        prefix, suffix = native.llama_vocab_fim_pre(vocab), native.llama_vocab_fim_suf(vocab)
        middle, file = native.llama_vocab_fim_mid(vocab), native.llama_vocab_fim_sep(vocab)
        if min(prefix, suffix, middle) < 0:
            return None
        return InfillTokens(prefix, suffix, middle, file if file >= 0 else None)

    def encode(self, text: str, *, parse_control: bool) -> list[int]:
        encoded = text.encode("utf-8")
        if len(encoded) > MAX_TEXT_BYTES:
            raise InvalidRequest(ErrorText("text_too_long"))
        capacity = len(encoded) + 8
        buffer = (ctypes.c_int32 * capacity)()
        n_tokens = self._native.llama_tokenize(
            self._vocab, encoded, len(encoded), buffer, capacity, False, parse_control
        )
        if n_tokens < 0:
            raise InvalidRequest(ErrorText("text_not_tokenizable"))
        return buffer[:n_tokens]

    def piece(self, token: int, *, show_control: bool = False) -> bytes:
        key = (token, show_control)
        known = self._pieces.get(key)
        if known is None:
            known = self._pieces[key] = self._native_piece(token, show_control)
        return known

    def _native_piece(self, token: int, show_control: bool) -> bytes:
        capacity = 64
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            size = self._native.llama_token_to_piece(
                self._vocab, token, buffer, capacity, 0, show_control
            )
            if size >= 0:
                return buffer.raw[:size]
            capacity = -size
