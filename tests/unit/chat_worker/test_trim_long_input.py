"""Fitting input that is many times too long: what is rendered does not grow with it, and what
comes out is what rendering all of it gives. Characters are counted, not seconds."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_worker.backend import Tokenizer
from chat_worker.pipe_messages import Conversation, Message, Tool
from chat_worker.text import window
from chat_worker.text.prompt import PromptEncoder
from chat_worker.text.template import ChatTemplate
from chat_worker.text.truncation import FittedPrompt, PromptBounds, fit_conversation, fit_text
from common.errors import ContextLengthExceeded
from tests.unit.chat_worker.exact_trim import fit_exactly

N_AROUND = 2
FIRST_WINDOW = window.first_window(500)
ROLES = st.sampled_from(["user", "user", "assistant", "tool"])
# Tokens of one character, of three, and of many, in any mixture.
TEXTS = st.text("ab ", max_size=60)


@dataclass
class Counting:
    """An encoder that gives a token for every character, but one for a whole run of spaces.

    Tokens are numbered by what they stand for, so that equal prompts alone are equal.
    """

    n_chars: int = 0
    n_calls: int = 0
    rendered: list[int] = field(default_factory=list)

    def __call__(self, conversation: Conversation) -> list[int]:
        self.n_calls += 1
        tokens: list[int] = [1] * len(conversation.tools)
        for message in conversation.messages:
            self.n_chars += len(message.content)
            tokens += [0] * N_AROUND
            before = ""
            for character in message.content:
                if character != " " or before != " ":
                    tokens.append(ord(character))
                before = character
        self.rendered.append(len(conversation.messages))
        return tokens


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random conversations are short: the first window is too, so that the search has its work."""
    monkeypatch.setattr(window, "LEAST_WINDOW_CHARS", 16)
    monkeypatch.setattr(window, "WINDOW_CHARS_PER_TOKEN", 1)


def fitted_or_none(
    conversation: Conversation, encode: Callable[[Conversation], list[int]], bounds: PromptBounds
) -> FittedPrompt | None:
    try:
        return fit_conversation(conversation, encode, bounds)
    except ContextLengthExceeded:
        return None


def talk_of(n_messages: int, content: str = "a short message of some words") -> Conversation:
    roles = ("user", "assistant")
    messages = [Message(roles[i % 2], f"{content} {i:6}") for i in range(n_messages)]
    return Conversation([Message("system", "be good"), *messages, Message("user", "and now?")])


CONVERSATIONS = st.builds(
    lambda heads, messages, n_tools: Conversation(
        [Message("system", text) for text in heads] + [Message(*m) for m in messages],
        tools=[Tool("f")] * n_tools,
    ),
    st.lists(TEXTS, max_size=2),
    st.lists(st.tuples(ROLES, TEXTS), max_size=30),
    st.integers(0, 1),
)


@settings(max_examples=300)
@given(
    CONVERSATIONS,
    st.integers(1, 300),
    st.one_of(st.just(0), st.integers(1, 300)),
    st.sampled_from(["trim", "refuse"]),
)
def test_what_fits_a_window_is_trimmed_exactly_as_if_everything_was_rendered(
    conversation: Conversation, max_tokens: int, max_chars: int, on_overflow: str
) -> None:
    bounds = PromptBounds(max_tokens, max_chars, on_overflow)  # type: ignore[arg-type]
    expected = fit_exactly(conversation, Counting(), bounds)
    assert fitted_or_none(conversation, Counting(), bounds) == expected


@pytest.mark.usefixtures("small_windows")
def test_through_small_windows_the_same_is_kept() -> None:
    @settings(max_examples=400)
    @given(
        CONVERSATIONS,
        st.integers(1, 300),
        st.one_of(st.just(0), st.integers(1, 300)),
        st.sampled_from(["trim", "refuse"]),
    )
    def check(
        conversation: Conversation, max_tokens: int, max_chars: int, on_overflow: str
    ) -> None:
        bounds = PromptBounds(max_tokens, max_chars, on_overflow)  # type: ignore[arg-type]
        expected = fit_exactly(conversation, Counting(), bounds)
        fitted = fitted_or_none(conversation, Counting(), bounds)
        if expected is None or fitted is None:
            assert fitted is expected
            return
        assert fitted.tokens == expected.tokens
        assert fitted.trimmed_messages == expected.trimmed_messages
        # It may be an estimate here, but never says that nothing is missing where something is.
        assert bool(fitted.trimmed_tokens) == bool(expected.trimmed_tokens)

    check()


@pytest.mark.parametrize("max_tokens", [500, 30_000])
def test_ten_times_as_many_messages_do_not_make_more_to_render(max_tokens: int) -> None:
    once, tenfold = Counting(), Counting()
    few = fit_conversation(talk_of(10_001), once, PromptBounds(max_tokens))
    many = fit_conversation(talk_of(100_001), tenfold, PromptBounds(max_tokens))
    first = window.first_window(max_tokens)
    assert once.n_chars <= 6 * first
    assert tenfold.n_chars <= 1.2 * once.n_chars
    assert max(len(few.tokens), len(many.tokens)) <= max_tokens
    assert min(len(few.tokens), len(many.tokens)) > max_tokens - 100
    assert few.trimmed_messages + 90_000 - 10 <= many.trimmed_messages


def test_one_message_of_eight_million_characters_is_cut_without_rendering_it() -> None:
    encode = Counting()
    huge = Conversation([Message("system", "be good"), Message("user", "x" * 8_000_000)])
    fitted = fit_conversation(huge, encode, PromptBounds(500))
    assert len(fitted.tokens) == 500
    assert encode.n_chars <= 4 * FIRST_WINDOW
    # All characters are alike, so that the estimate is exact but for what stands around them.
    assert fitted.trimmed_tokens == pytest.approx(8_000_000, rel=0.01)


def test_many_messages_of_one_turn_are_rendered_a_few_times_and_refused() -> None:
    encode = Counting()
    one_turn = Conversation([Message("user", "a few words") for _ in range(50_000)])
    with pytest.raises(ContextLengthExceeded):
        fit_conversation(one_turn, encode, PromptBounds(500))
    assert encode.n_chars <= 3 * 50_000 * len("a few words")


def test_long_input_that_becomes_few_tokens_is_kept_whole() -> None:
    encode = Counting()
    spaces = Conversation(
        [Message("user" if i % 2 == 0 else "assistant", " " * 5_000) for i in range(101)]
    )
    fitted = fit_conversation(spaces, encode, PromptBounds(500))
    assert (fitted.trimmed_tokens, fitted.trimmed_messages) == (0, 0)
    assert encode.n_chars <= 4 * 101 * 5_000


def test_a_refusal_counts_no_more_than_it_must_and_says_that_there_is_more() -> None:
    encode = Counting()
    with pytest.raises(ContextLengthExceeded, match=r"at least \d+ tokens") as caught:
        fit_conversation(talk_of(100_001), encode, PromptBounds(500, on_overflow="refuse"))
    assert encode.n_calls == 1
    assert 500 < int(caught.value.metadata["input_tokens"]) < 4_000_000


@pytest.mark.parametrize("max_tokens", [200, 3_000])
def test_a_long_raw_prompt_keeps_the_tokens_of_its_end(
    tokenizer: Tokenizer, max_tokens: int
) -> None:
    text = "".join(
        f"Line {i}: it is {i * 7919 % 1000} o'clock, 界 and all's well.\n" for i in range(9_000)
    )
    encoded: list[int] = []

    def encode(part: str) -> list[int]:
        encoded.append(len(part))
        return [*tokenizer.prefix, *tokenizer.encode(part, parse_control=False)]

    n_prefix = len(tokenizer.prefix)
    whole = [*tokenizer.prefix, *tokenizer.encode(text, parse_control=False)]
    fitted = fit_text(text, encode, PromptBounds(max_tokens), n_prefix)
    assert fitted.tokens[n_prefix:] == whole[-(max_tokens - n_prefix) :]
    assert len(fitted.tokens) == max_tokens
    assert sum(encoded) <= 2 * window.first_window(max_tokens)
    assert fitted.trimmed_tokens == pytest.approx(len(whole) - max_tokens, rel=0.1)


def test_a_raw_prompt_that_a_limit_of_characters_cuts_says_so() -> None:
    fitted = fit_text("a" * 100, lambda text: [1] * len(text), PromptBounds(1000, max_chars=40))
    assert len(fitted.tokens) == 40
    assert fitted.trimmed_tokens == 60


def test_a_long_rendering_is_tokenized_in_pieces_that_change_nothing(tokenizer: Tokenizer) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    n_checks = 0

    def check() -> None:
        nonlocal n_checks
        n_checks += 1

    template = ChatTemplate(source, {})
    encoder = PromptEncoder(tokenizer, template)
    conversation = talk_of(3_001, "a <|im_end|> typed, then  some words")
    tokens = encoder.encode(talk_of(3_001), check)
    assert tokens == tokenizer.prefix + tokenizer.encode(
        template.render(talk_of(3_001)), parse_control=True
    )
    assert n_checks >= 3
    assert tokenizer.encode("<|im_end|>", parse_control=True)[0] in tokens
    assert len(encoder.encode(conversation)) > len(tokens)


def test_work_that_is_not_wanted_any_more_ends_between_two_pieces(tokenizer: Tokenizer) -> None:
    class GoneError(Exception):
        pass

    def check() -> None:
        raise GoneError

    encoder = PromptEncoder(tokenizer, ChatTemplate("{{ messages[0].content }}", {}))
    with pytest.raises(GoneError):
        encoder.encode(talk_of(1), check)


def test_a_rendering_that_never_ends_is_left_at_once_when_it_is_not_wanted() -> None:
    class GoneError(Exception):
        pass

    def check() -> None:
        raise GoneError

    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(GoneError):
        ChatTemplate(endless, {}).render(talk_of(1), check)
