"""Fitting conversations, with an encoder that counts characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_worker.pipe_messages import Conversation, Message
from chat_worker.text.truncation import PromptBounds, fit_conversation, fit_tokens, split_turns
from common.errors import ContextLengthExceeded

N_AROUND = 2


def encode(conversation: Conversation) -> list[int]:
    return [1 for m in conversation.messages for _ in range(len(m.content) + N_AROUND)]


def talk(*contents: tuple[str, str]) -> Conversation:
    return Conversation([Message(role, content) for role, content in contents])


LONG = talk(
    ("system", "s" * 10),
    ("user", "a" * 20),
    ("assistant", "b" * 20),
    ("user", "c" * 20),
    ("assistant", "d" * 5),
    ("tool", "e" * 5),
    ("assistant", "f" * 5),
    ("user", "g" * 20),
)


def test_what_fits_is_left_alone() -> None:
    fitted = fit_conversation(LONG, encode, PromptBounds(1000))
    assert len(fitted.tokens) == len(encode(LONG))
    assert fitted.trimmed_tokens == fitted.trimmed_messages == 0


def test_the_oldest_turns_go_first_and_are_counted() -> None:
    fitted = fit_conversation(LONG, encode, PromptBounds(100))
    assert fitted.trimmed_messages == 2
    assert fitted.trimmed_tokens == 44
    assert len(fitted.tokens) == len(encode(LONG)) - 44


def test_a_tool_call_goes_with_its_result() -> None:
    fitted = fit_conversation(LONG, encode, PromptBounds(60))
    assert fitted.trimmed_messages == 6
    assert len(fitted.tokens) == 12 + 22


def test_a_newest_turn_that_is_too_long_keeps_its_end() -> None:
    seen: list[Conversation] = []

    def spy(conversation: Conversation) -> list[int]:
        seen.append(conversation)
        return encode(conversation)

    question = talk(("system", "s"), ("user", "0123456789"))
    fitted = fit_conversation(question, spy, PromptBounds(10))
    assert len(fitted.tokens) == 10
    assert any(c.messages[-1].content == "56789" for c in seen)
    assert all(c.messages[0].content == "s" for c in seen)


def test_a_system_message_that_alone_is_too_long_is_refused_with_both_numbers() -> None:
    with pytest.raises(ContextLengthExceeded, match="26 tokens > 10 maximum") as caught:
        fit_conversation(talk(("system", "s" * 20), ("user", "hi")), encode, PromptBounds(10))
    assert caught.value.metadata == {"input_tokens": "26", "max_input_tokens": "10"}


# How programs find out that a conversation must be shortened: most of them read the message.
KNOWN_BY_AGENTS = [
    r"prompt is too long[^0-9]*(\d+) tokens > (\d+) maximum",
    r"maximum context length is \d+ tokens",
    r"(?i)this model's maximum context length is",
]


@pytest.mark.parametrize("pattern", KNOWN_BY_AGENTS)
@pytest.mark.parametrize("n_turns", [20, 10_001], ids=["counted", "estimated"])
def test_agents_know_what_the_refusal_is(pattern: str, n_turns: int) -> None:
    long = talk(*[("user", "x" * 10)] * n_turns)
    with pytest.raises(ContextLengthExceeded, match=pattern):
        fit_conversation(long, encode, PromptBounds(100, on_overflow="refuse"))


def test_refusing_is_a_setting() -> None:
    with pytest.raises(ContextLengthExceeded):
        fit_conversation(LONG, encode, PromptBounds(100, on_overflow="refuse"))
    with pytest.raises(ContextLengthExceeded):
        fit_tokens([1] * 11, PromptBounds(10, on_overflow="refuse"))


def test_characters_are_a_limit_of_their_own() -> None:
    assert fit_conversation(LONG, encode, PromptBounds(1000, max_chars=40)).trimmed_messages == 6


def test_a_raw_prompt_keeps_its_beginning_of_sequence_and_its_end() -> None:
    fitted = fit_tokens(list(range(10)), PromptBounds(4), n_prefix=1)
    assert fitted.tokens == [0, 7, 8, 9]
    assert fitted.trimmed_tokens == 6


ROLES = st.sampled_from(["user", "assistant", "tool"])


@given(
    st.lists(st.tuples(ROLES, st.text("x", max_size=30)), min_size=1, max_size=12),
    st.integers(1, 200),
)
def test_whatever_the_conversation_the_result_fits_or_is_refused(
    contents: list[tuple[str, str]], most: int
) -> None:
    conversation = talk(("system", "sys"), *contents)
    try:
        fitted = fit_conversation(conversation, encode, PromptBounds(most))
    except ContextLengthExceeded:
        newest = split_turns(conversation.messages)[1][-1]
        n_texts = sum(len(m.content) for m in newest)
        longest = max(len(m.content) for m in newest)
        least = 5 + len(newest) * N_AROUND + n_texts - longest + min(longest, 1)
        assert most < least
    else:
        assert len(fitted.tokens) <= most
        assert len(fitted.tokens) + fitted.trimmed_tokens == len(encode(conversation))


def test_a_refusal_says_why_less_fits_than_usual() -> None:
    short = PromptBounds(5, on_overflow="refuse", why="the model was loaded with a shorter context")
    with pytest.raises(ContextLengthExceeded, match="for a prompt: the model was loaded with a"):
        fit_tokens([1] * 9, short)
