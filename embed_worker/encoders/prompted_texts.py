"""Encodes texts behind a model's own prompt.

Prompt and text are encoded together, because a token may span both. The spelling of a special token
becomes that token only in the prompt; in a user's text it stays plain text.
"""

from collections.abc import Iterator, Sequence

from embed_worker.encoders.long_texts import Encode, Enough, is_long, token_ids


class PromptedTexts:
    """Encodes prompts and the texts behind them for one model.

    Args:
        encode: reads the spelling of a special token as plain text.
        encode_special: reads it as that token.
        special_ids: the ids of the special tokens.
    """

    def __init__(self, encode: Encode, encode_special: Encode, special_ids: frozenset[int]) -> None:
        self._encode = encode
        self._encode_special = encode_special
        self._special_ids = special_ids

    def ids(self, prompt: str) -> list[int]:
        """Return the token ids of the prompt."""
        return self._encode_special([prompt])[0] if prompt else []

    def before(
        self, prompt: str, texts: Sequence[str], enough: Enough | None = None
    ) -> list[list[int]]:
        """Return the token ids of each text behind the prompt, as `token_ids` returns them."""
        own = self.ids(prompt)
        if self._special_in(own):
            return list(self._behind_special(prompt, own, texts, enough))
        encoded = token_ids(self._encode, [prompt + text for text in texts], enough)
        if not own or enough is None or not enough.from_end:
            return encoded
        # Long texts were encoded from their ends, without the prompt.
        return [
            own + ids if is_long(prompt + text) else ids
            for text, ids in zip(texts, encoded, strict=True)
        ]

    def _behind_special(
        self, prompt: str, own: list[int], texts: Sequence[str], enough: Enough | None
    ) -> Iterator[list[int]]:
        special = self._special_in(own)
        short = [prompt + text for text in texts if not is_long(prompt + text)]
        together = iter(token_ids(self._encode_special, short))
        for text in texts:
            ids = [] if is_long(prompt + text) else next(together)
            if self._special_in(ids) != special:
                # The text spells special tokens itself, or it is long.
                ids = own + token_ids(self._encode, [text], enough)[0]
            yield ids

    def _special_in(self, ids: list[int]) -> list[int]:
        return [token for token in ids if token in self._special_ids]
