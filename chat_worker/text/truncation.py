"""Makes a prompt fit: drops the oldest turns, by exact counts, and reports what it dropped.

The system message and the newest turn stay. A turn is a user message with everything up to the
next user message, so a tool call is never separated from its result. Only if the newest turn alone
is too long, the beginning of its longest text is cut off.

The cost depends on the length of what fits, not on the length of the input: see `window.py`.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import msgspec

from chat_worker.pipe_messages import Conversation, Message
from chat_worker.text.window import LongestFit, first_window
from common.error_texts import ErrorText
from common.errors import ContextLengthExceeded

Overflow = Literal["trim", "refuse"]
Encode = Callable[[Conversation], list[int]]
# This many tokens after a cut, the tokens are again the same as those of the whole text.
SETTLED_TOKENS = 256
# Ids of the error text for input that is too long, without and with the reason of the limit.
EXACTLY = ("input_too_long", "input_too_long_because")
AT_LEAST = ("input_too_long_at_least", "input_too_long_at_least_because")


@dataclass(frozen=True)
class FittedPrompt:
    """Prompt tokens that fit, and how much was dropped.

    Args:
        trimmed_tokens: exact unless the input is many times longer than what fits; then it is an
            estimate, because input that certainly does not fit is not tokenized.
    """

    tokens: list[int]
    trimmed_tokens: int = 0
    trimmed_messages: int = 0


@dataclass(frozen=True)
class PromptBounds:
    """The limits of a prompt: tokens always, characters unless 0."""

    max_tokens: int
    max_chars: int = 0
    on_overflow: Overflow = "trim"
    # Why the limits are tighter than usual, for the error message; empty if they are not.
    why: str = ""


def fit_tokens(tokens: list[int], bounds: PromptBounds, n_prefix: int = 0) -> FittedPrompt:
    """Fit a raw prompt of tokens: keep its end, and its first `n_prefix` tokens (BOS).

    Raises:
        ContextLengthExceeded: it is too long and the policy is to refuse such input.
    """
    n_over = len(tokens) - bounds.max_tokens
    if n_over <= 0:
        return FittedPrompt(tokens)
    if bounds.on_overflow == "refuse":
        raise _too_long(len(tokens), bounds, "prompt")
    return FittedPrompt(tokens[:n_prefix] + tokens[n_prefix + n_over :], n_over)


def fit_text(
    text: str, encode: Callable[[str], list[int]], bounds: PromptBounds, n_prefix: int = 0
) -> FittedPrompt:
    """Fit a raw prompt of text: keep its end, after the `n_prefix` tokens that begin each prompt.

    Args:
        encode: returns the tokens of a text, with those `n_prefix` tokens.
    Raises:
        ContextLengthExceeded: it is too long and the policy is to refuse such input.
    """
    most = min(len(text), bounds.max_chars or len(text))
    n_chars = min(first_window(bounds.max_tokens), most)
    tokens = encode(_end_of(text, n_chars))
    while n_chars < most and len(tokens) < bounds.max_tokens + SETTLED_TOKENS:
        n_chars = min(2 * n_chars, most)
        tokens = encode(_end_of(text, n_chars))
    if n_chars == len(text):
        return fit_tokens(tokens, bounds, n_prefix)
    if bounds.on_overflow == "refuse":
        raise _too_long(len(tokens), bounds, "prompt", is_least=True)
    n_whole = len(tokens) * len(text) // n_chars
    kept = fit_tokens(tokens, bounds, n_prefix).tokens
    return FittedPrompt(kept, max(n_whole - len(kept), 1))


def fit_conversation(
    conversation: Conversation, encode: Encode, bounds: PromptBounds
) -> FittedPrompt:
    """Fit a conversation.

    Args:
        encode: renders a conversation with the model's template and tokenizes it.
    Raises:
        ContextLengthExceeded: it is too long and the policy is to refuse such input, or the system
            message alone is too long.
    """
    head, turns = split_turns(conversation.messages)
    n_turns = len(turns)

    def newest(n_kept: int) -> Conversation:
        kept = [message for turn in turns[n_turns - n_kept :] for message in turn]
        return msgspec.structs.replace(conversation, messages=head + kept)

    chars = _chars_kept(conversation, head, turns)
    fit = LongestFit(lambda n_kept: encode(newest(n_kept)), chars, bounds.max_tokens)
    cut = None
    if turns and chars[1] > first_window(bounds.max_tokens):
        # It may be far longer than what fits; in that case only its end is rendered.
        cut = _cut_longest(newest(1), encode, bounds)
    if cut is None or cut.is_whole:
        fit.search(_turns_in_chars(head, turns, bounds), only_whole=bounds.on_overflow == "refuse")
        if fit.is_whole and fit.tokens is not None:
            return FittedPrompt(fit.tokens)
    if bounds.on_overflow == "trim" and fit.tokens is None and cut is None:
        cut = _cut_longest(newest(min(n_turns, 1)), encode, bounds)
    counted = cut if cut is not None and not fit.n_counted else fit
    tokens = fit.tokens if cut is None else cut.tokens
    if bounds.on_overflow == "refuse" or tokens is None:
        raise _too_long(counted.n_counted, bounds, "messages", is_least=not fit.has_counted_all)
    n_messages = sum(len(turn) for turn in turns[: n_turns - max(fit.n_kept, 1)])
    n_whole = counted.n_tokens_in(chars[-1])
    return FittedPrompt(tokens, max(n_whole - len(tokens), 0), n_messages)


def split_turns(messages: list[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The leading system messages, and the turns, each of which begins with a user message."""
    n_head = 0
    while n_head < len(messages) and messages[n_head].role in ("system", "developer"):
        n_head += 1
    turns: list[list[Message]] = []
    for message in messages[n_head:]:
        if not turns or (message.role == "user" and turns[-1][-1].role != "user"):
            turns.append([])
        turns[-1].append(message)
    return messages[:n_head], turns


def _cut_longest(
    conversation: Conversation, encode: Encode, bounds: PromptBounds
) -> LongestFit | None:
    """How much of the end of the longest text of the only turn fits; None if there is no text."""
    messages = conversation.messages
    candidates = [i for i, m in enumerate(messages) if m.role not in ("system", "developer")]
    if not candidates:
        return None
    at = max(candidates, key=lambda i: len(messages[i].content))
    text = messages[at].content
    most = len(text)
    if bounds.max_chars:
        most -= max(sum(len(m.content) for m in messages) - bounds.max_chars, 0)
    if most < 1:
        return None

    def encode_end(n_kept: int) -> list[int]:
        cut = list(messages)
        cut[at] = msgspec.structs.replace(messages[at], content=text[len(text) - n_kept :])
        return encode(msgspec.structs.replace(conversation, messages=cut))

    n_others = _n_chars_of_tools(conversation) + sum(map(_n_chars, messages)) - len(text)
    fit = LongestFit(encode_end, range(n_others, n_others + len(text) + 1), bounds.max_tokens)
    fit.search(most)
    return fit


def _end_of(text: str, n_chars: int) -> str:
    """The last `n_chars`, if they are the whole text; else less, from white space on.

    Tokens begin at white space.
    """
    start = len(text) - n_chars
    for at in range(start, start + n_chars // 8 if start else 0):
        if text[at].isspace():
            return text[at:]
    return text[start:]


def _chars_kept(
    conversation: Conversation, head: list[Message], turns: list[list[Message]]
) -> list[int]:
    """The number of characters of the system messages with the newest 0, 1, 2 … turns."""
    sizes = (sum(map(_n_chars, turn)) for turn in reversed(turns))
    n_always = _n_chars_of_tools(conversation) + sum(map(_n_chars, head))
    return list(accumulate(sizes, initial=n_always))


def _n_chars_of_tools(conversation: Conversation) -> int:
    return sum(len(t.name) + len(t.description) + len(t.parameters) for t in conversation.tools)


def _n_chars(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.reasoning) + len(message.name) + calls


def _turns_in_chars(head: list[Message], turns: list[list[Message]], bounds: PromptBounds) -> int:
    """How many of the newest turns the limit of characters allows; -1 if `head` is too long."""
    if not bounds.max_chars:
        return len(turns)
    sizes = (sum(len(m.content) for m in turn) for turn in [head, *reversed(turns)])
    return bisect_right(list(accumulate(sizes)), bounds.max_chars) - 1


def _too_long(
    n_tokens: int, bounds: PromptBounds, param: str, *, is_least: bool = False
) -> ContextLengthExceeded:
    """The error for input that does not fit.

    Args:
        is_least: `n_tokens` is a lower bound, because not all tokens were counted.
    """
    numbers = {"n_tokens": n_tokens, "most": bounds.max_tokens}
    plain, because = AT_LEAST if is_least else EXACTLY
    return ContextLengthExceeded(
        ErrorText(because, **numbers, why=bounds.why)
        if bounds.why
        else ErrorText(plain, **numbers),
        param=param,
        suggestions=(ErrorText("shorten_input"), ErrorText("raise_context")),
        metadata={"input_tokens": str(n_tokens), "max_input_tokens": str(bounds.max_tokens)},
    )
