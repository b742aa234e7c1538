"""Converts texts and token ids to the rows that the model receives.

User text never becomes a special token: "[SEP]" typed by a user is five plain characters. In the
prompts of a model, it is the token.
"""

from array import array
from collections.abc import Sequence
from typing import Literal

import msgspec
import tokenizers

from common.error_texts import ErrorText
from common.errors import BackendLoadFailed, ContextLengthExceeded, InvalidRequest
from embed_worker.encoders.long_texts import Enough, is_long
from embed_worker.encoders.prompted_texts import PromptedTexts
from embed_worker.engine.call import TOKEN_TYPE, Row

Truncate = Literal["end", "start", "none"]
PROBE = "a"


class Tokenized(msgspec.Struct, frozen=True):
    rows: list[Row]
    # Indices of the inputs that were truncated.
    truncated: list[int]


class Tokenization:
    """Tokenizes for one model.

    Args:
        tokenizer: the model's own; its truncation and padding are turned off.
        max_tokens: the most tokens of one row, special tokens included.
        n_embedded: the number of rows in the model's embedding table.
    Raises:
        BackendLoadFailed: the tokenizer does not put its special tokens around the text.
    """

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, *, max_tokens: int, n_embedded: int
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().items()
        special_ids = frozenset(number for number, token in added if token.special)
        self._prompts = PromptedTexts(self._encode, self._encode_special, special_ids)
        self._before, self._after = special_tokens(
            tokenizer.encode(PROBE, add_special_tokens=False).ids,
            tokenizer.encode(PROBE, add_special_tokens=True).ids,
        )
        self.max_tokens = max_tokens
        largest_id = max(tokenizer.get_vocab(with_added_tokens=True).values())
        self.n_vocab = min(largest_id + 1, n_embedded)

    def rows(
        self,
        inputs: Sequence[str | list[int]],
        *,
        prompt: str = "",
        truncate: Truncate = "end",
        max_tokens: int | None = None,
        max_text_tokens: int | None = None,
        may_be_empty: bool = False,
    ) -> Tokenized:
        """Return rows for `inputs`, each beginning with `prompt`.

        Args:
            inputs: texts or token ids; ids may have the model's special tokens around them, as
                `ids` returns them, or not.
            max_tokens: the most tokens of a row, special tokens included; None if the model's own
                limit applies.
            max_text_tokens: the most tokens that are kept of each input; None if all are.
            may_be_empty: an empty text is allowed; its row has only special tokens and the prompt.
        Raises:
            InvalidRequest: an input is empty or has ids that the model does not know, or
                `max_tokens` is more than the model takes or less than its special tokens need.
            ContextLengthExceeded: an input is too long, and `truncate` is "none".
        """
        room = self._room(max_tokens)
        prompt_ids = self._prompts.ids(prompt)
        n_prompt = len(prompt_ids)
        most = None if max_text_tokens is None else n_prompt + max_text_tokens
        # One token more than fits shows that a text is too long.
        enough = Enough(room + 1, truncate == "start") if most is None else Enough(most + 1)
        if "" in inputs and not may_be_empty:
            raise InvalidRequest(ErrorText("input_empty"), param=f"input[{inputs.index('')}]")
        contents = self._contents(inputs, prompt, prompt_ids, enough)
        truncated: list[int] = []
        rows: list[Row] = []
        for index, whole in enumerate(contents):
            content = whole[:most]
            kept = content
            if len(content) > room:
                if truncate == "none":
                    given = inputs[index]
                    exactly = not (isinstance(given, str) and is_long(prompt + given))
                    raise self._too_long(index, len(content), room, exactly=exactly)
                kept = content[:room]
                if truncate == "start":
                    n_head = min(n_prompt, room)
                    kept = content[:n_head] + content[len(content) - (room - n_head) :]
            if len(kept) < len(whole):
                truncated.append(index)
            ids = array(TOKEN_TYPE, (*self._before, *kept, *self._after))
            if not ids:
                raise InvalidRequest(ErrorText("input_without_tokens"), param=f"input[{index}]")
            rows.append(Row(ids, len(self._before) + n_prompt if prompt else 0))
        return Tokenized(rows, truncated)

    def ids(self, texts: Sequence[str], *, add_special: bool = True) -> list[list[int]]:
        """Return the token ids of the whole texts, with the special tokens if `add_special`."""
        contents = self._prompts.before("", texts)
        if not add_special:
            return contents
        return [[*self._before, *content, *self._after] for content in contents]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token of `ids` in the spelling of the vocabulary."""
        return [self._tokenizer.id_to_token(token) or "" for token in ids]

    def _contents(
        self,
        inputs: Sequence[str | list[int]],
        prompt: str,
        prompt_ids: list[int],
        enough: Enough,
    ) -> list[list[int]]:
        """Return token ids without the special tokens around them; equal texts are encoded once."""
        texts = list(dict.fromkeys(text for text in inputs if isinstance(text, str)))
        by_text = dict(zip(texts, self._prompts.before(prompt, texts, enough), strict=True))
        return [
            by_text[given]
            if isinstance(given, str)
            else prompt_ids + self._bare(self._checked(index, given))
            for index, given in enumerate(inputs)
        ]

    def _bare(self, ids: list[int]) -> list[int]:
        """Return `ids` without the special tokens around them, which text alone never produces."""
        n_before, end = len(self._before), len(ids) - len(self._after)
        framed = n_before <= end and ids[:n_before] == self._before and ids[end:] == self._after
        return ids[n_before:end] if framed else ids

    def _encode(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text, without the special tokens around it."""
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def _encode_special(self, texts: list[str]) -> list[list[int]]:
        """Encode the model's own texts, in which the spelling of a special token is the token."""
        self._tokenizer.encode_special_tokens = False
        try:
            return self._encode(texts)
        finally:
            self._tokenizer.encode_special_tokens = True

    def _checked(self, index: int, ids: list[int]) -> list[int]:
        param = f"input[{index}]"
        if not ids:
            raise InvalidRequest(ErrorText("token_ids_empty"), param=param)
        if max(ids) >= self.n_vocab or min(ids) < 0:
            wrong = next(i for i in ids if not 0 <= i < self.n_vocab)
            raise InvalidRequest(
                ErrorText("token_id_unknown", token=wrong, n_vocab=self.n_vocab),
                param=param,
                suggestions=(
                    ErrorText("send_text_not_ids"),
                    ErrorText("take_ids_from_tokenize"),
                    ErrorText("langchain_option"),
                ),
            )
        return ids

    @property
    def _n_around(self) -> int:
        return len(self._before) + len(self._after)

    def _room(self, max_tokens: int | None) -> int:
        """Return how many tokens of a row remain besides the special tokens."""
        most = self.max_tokens if max_tokens is None else max_tokens
        if not self._n_around < most <= self.max_tokens:
            raise InvalidRequest(
                ErrorText(
                    "cut_impossible", most=most, low=self._n_around + 1, high=self.max_tokens
                ),
                param="max_tokens",
            )
        return most - self._n_around

    def _too_long(
        self, index: int, n_content: int, room: int, *, exactly: bool
    ) -> ContextLengthExceeded:
        n_tokens, most = n_content + self._n_around, room + self._n_around
        count = n_tokens if exactly else f"at least {n_tokens}"
        return ContextLengthExceeded(
            ErrorText("embed_input_too_long", n_tokens=count, most=most),
            param=f"input[{index}]",
            suggestions=(ErrorText("split_input"), ErrorText("let_cut")),
            metadata={"tokens": str(n_tokens), "max_tokens": str(most)},
        )


def special_tokens(bare: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after `bare` in `whole`, the same text with them.

    Raises:
        BackendLoadFailed: `bare` is empty or not in `whole`.
    """
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise BackendLoadFailed(ErrorText("special_tokens_unknown"))
