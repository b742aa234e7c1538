"""Token ids of texts behind a model's own prompt, whose special tokens are tokens.

Prompt and text are encoded together, as their tokens may join. A user's text has no say in which
tokens are special.
"""

from collections.abc import Iterator, Sequence

from embed_worker.encoders.long_texts import Encode, Enough, is_long, token_ids


class PromptedTexts:
    """
    Args:
        encode: takes special tokens in a text for plain text.
        encode_special: takes them for what they are.
        special_ids: of those tokens.
    """

    def __init__(self, encode: Encode, encode_special: Encode, special_ids: frozenset[int]) -> None:
        self._encode = encode
        self._encode_special = encode_special
        self._special_ids = special_ids

    def ids(self, prompt: str) -> list[int]:
        """The prompt's own."""
        return self._encode_special([prompt])[0] if prompt else []

    def before(
        self, prompt: str, texts: Sequence[str], enough: Enough | None = None
    ) -> list[list[int]]:
        """Those of each text with the prompt before it, as `token_ids` gives them."""
        own = self.ids(prompt)
        if self._special_in(own):
            return list(self._behind_special(prompt, own, texts, enough))
        encoded = token_ids(self._encode, [prompt + text for text in texts], enough)
        if not own or enough is None or not enough.from_end:
            return encoded
        # Of the long ones the prompt was not read.
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
                # The text has some of its own, or is long.
                ids = own + token_ids(self._encode, [text], enough)[0]
            yield ids

    def _special_in(self, ids: list[int]) -> list[int]:
        return [token for token in ids if token in self._special_ids]
