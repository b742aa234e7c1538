"""Trimming as it was before input of any length was looked at through windows: everything is
rendered and counted, then half of it again and again. It is what the result must equal."""

from collections.abc import Callable

import msgspec

from chat_worker.pipe_messages import Conversation
from chat_worker.text.truncation import FittedPrompt, PromptBounds, split_turns

Encode = Callable[[Conversation], list[int]]


def fit_exactly(
    conversation: Conversation, encode: Encode, bounds: PromptBounds
) -> FittedPrompt | None:
    """None: it cannot be made to fit."""
    whole = encode(conversation)
    if _fits(conversation, whole, bounds):
        return FittedPrompt(whole)
    if bounds.on_overflow == "refuse":
        return None
    head, turns = split_turns(conversation.messages)

    def without(n_turns: int) -> Conversation:
        kept = [message for turn in turns[n_turns:] for message in turn]
        return msgspec.structs.replace(conversation, messages=head + kept)

    low, high = 1, len(turns) - 1
    best: tuple[int, list[int]] | None = None
    while low <= high:
        middle = (low + high) // 2
        tokens = encode(without(middle))
        if _fits(without(middle), tokens, bounds):
            best, high = (middle, tokens), middle - 1
        else:
            low = middle + 1
    if best is not None:
        n_messages = sum(len(turn) for turn in turns[: best[0]])
        return FittedPrompt(best[1], len(whole) - len(best[1]), n_messages)
    cut = _cut_newest(without(max(len(turns) - 1, 0)), encode, bounds)
    if cut is None:
        return None
    return FittedPrompt(cut, len(whole) - len(cut), sum(len(turn) for turn in turns[:-1]))


def _cut_newest(
    conversation: Conversation, encode: Encode, bounds: PromptBounds
) -> list[int] | None:
    messages = conversation.messages
    candidates = [i for i, m in enumerate(messages) if m.role not in ("system", "developer")]
    if not candidates:
        return None
    at = max(candidates, key=lambda i: len(messages[i].content))
    text = messages[at].content
    best = None
    low, high = 1, len(text)
    while low <= high:
        middle = (low + high) // 2
        cut = list(messages)
        cut[at] = msgspec.structs.replace(messages[at], content=text[len(text) - middle :])
        shorter = msgspec.structs.replace(conversation, messages=cut)
        tokens = encode(shorter)
        if _fits(shorter, tokens, bounds):
            best, low = tokens, middle + 1
        else:
            high = middle - 1
    return best


def _fits(conversation: Conversation, tokens: list[int], bounds: PromptBounds) -> bool:
    if len(tokens) > bounds.max_tokens:
        return False
    n_chars = sum(len(message.content) for message in conversation.messages)
    return not bounds.max_chars or n_chars <= bounds.max_chars
