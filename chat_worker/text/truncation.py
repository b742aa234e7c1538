"""Makes a prompt fit: leaves out the oldest turns, exactly counted, and says what it left out.

The system message and the newest turn stay. A turn is a user message with everything up to the
next one, so a tool call is never parted from its result. Only if the newest turn alone is too long
is its first user text cut, at its beginning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from chat_worker.pipe_messages import Conversation, Message
from common.errors import ContextLengthExceeded

Overflow = Literal["trim", "refuse"]
Encode = Callable[[Conversation], list[int]]


@dataclass(frozen=True)
class FittedPrompt:
    """Prompt tokens that fit, and how much was left out for that."""

    tokens: list[int]
    trimmed_tokens: int = 0
    trimmed_messages: int = 0


@dataclass(frozen=True)
class PromptBounds:
    """What a prompt may have: tokens always, characters if not 0."""

    max_tokens: int
    max_chars: int = 0
    on_overflow: Overflow = "trim"
    # If they are tighter than usual; for those who meet them.
    why: str = ""


def fit_tokens(tokens: list[int], bounds: PromptBounds, n_prefix: int = 0) -> FittedPrompt:
    """Fit a raw prompt: its end is kept, and its first `n_prefix` tokens (BOS).

    Raises:
        ContextLengthExceeded: too long, and refusing is set.
    """
    n_over = len(tokens) - bounds.max_tokens
    if n_over <= 0:
        return FittedPrompt(tokens)
    _refuse_if_set(len(tokens), bounds, "prompt")
    return FittedPrompt(tokens[:n_prefix] + tokens[n_prefix + n_over :], n_over)


def fit_conversation(
    conversation: Conversation, encode: Encode, bounds: PromptBounds
) -> FittedPrompt:
    """Fit a conversation.

    Args:
        encode: renders with the model's template and counts exactly.
    Raises:
        ContextLengthExceeded: too long and refusing is set, or the system message alone is.
    """
    whole = encode(conversation)
    if _fits(conversation, whole, bounds):
        return FittedPrompt(whole)
    _refuse_if_set(len(whole), bounds, "messages")
    head, turns = split_turns(conversation.messages)

    def without(n_turns: int) -> Conversation:
        kept = [message for turn in turns[n_turns:] for message in turn]
        return msgspec.structs.replace(conversation, messages=head + kept)

    def attempt(n_turns: int) -> list[int] | None:
        tokens = encode(without(n_turns))
        return tokens if _fits(without(n_turns), tokens, bounds) else None

    # The fewest turns to leave out; counts grow with the turns kept, so halving finds it.
    low, high = 1, len(turns) - 1
    best: tuple[int, list[int]] | None = None
    while low <= high:
        middle = (low + high) // 2
        tokens = attempt(middle)
        if tokens is None:
            low = middle + 1
        else:
            best, high = (middle, tokens), middle - 1
    if best is not None:
        n_messages = sum(len(turn) for turn in turns[: best[0]])
        return FittedPrompt(best[1], len(whole) - len(best[1]), n_messages)
    tokens = _cut_newest(without(max(len(turns) - 1, 0)), encode, bounds, len(whole))
    n_messages = sum(len(turn) for turn in turns[:-1])
    return FittedPrompt(tokens, len(whole) - len(tokens), n_messages)


def split_turns(messages: list[Message]) -> tuple[list[Message], list[list[Message]]]:
    """Leading system messages, and the turns, each beginning with a user message."""
    n_head = 0
    while n_head < len(messages) and messages[n_head].role in ("system", "developer"):
        n_head += 1
    turns: list[list[Message]] = []
    for message in messages[n_head:]:
        if not turns or (message.role == "user" and turns[-1][-1].role != "user"):
            turns.append([])
        turns[-1].append(message)
    return messages[:n_head], turns


def _cut_newest(
    conversation: Conversation, encode: Encode, bounds: PromptBounds, n_whole: int
) -> list[int]:
    """Keep as much of the end of the longest text of the newest turn as fits."""
    messages = conversation.messages
    candidates = [i for i, m in enumerate(messages) if m.role not in ("system", "developer")]
    if not candidates:
        raise _too_long(n_whole, bounds, "messages")
    at = max(candidates, key=lambda i: len(messages[i].content))
    text = messages[at].content

    def attempt(n_kept: int) -> list[int] | None:
        cut = list(messages)
        cut[at] = msgspec.structs.replace(messages[at], content=text[len(text) - n_kept :])
        shorter = msgspec.structs.replace(conversation, messages=cut)
        tokens = encode(shorter)
        return tokens if _fits(shorter, tokens, bounds) else None

    best = None
    low, high = 1, len(text)
    while low <= high:
        middle = (low + high) // 2
        tokens = attempt(middle)
        if tokens is None:
            high = middle - 1
        else:
            best, low = tokens, middle + 1
    if best is None:
        raise _too_long(n_whole, bounds, "messages")
    return best


def _fits(conversation: Conversation, tokens: list[int], bounds: PromptBounds) -> bool:
    if len(tokens) > bounds.max_tokens:
        return False
    n_chars = sum(len(message.content) for message in conversation.messages)
    return not bounds.max_chars or n_chars <= bounds.max_chars


def _refuse_if_set(n_tokens: int, bounds: PromptBounds, param: str) -> None:
    if bounds.on_overflow == "refuse":
        raise _too_long(n_tokens, bounds, param)


def _too_long(n_tokens: int, bounds: PromptBounds, param: str) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"the input has {n_tokens} tokens; at most {bounds.max_tokens} fit"
        + (f": {bounds.why}" if bounds.why else ""),
        param=param,
        suggestions=("shorten the input", "raise LLAMA_CTX and MAX_INPUT_TOKENS"),
        metadata={"input_tokens": str(n_tokens), "max_input_tokens": str(bounds.max_tokens)},
    )
