"""A reply's tokens as text, reasoning and calls, in any chunking."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_worker.text.reasoning import THINK, thinking_marks
from chat_worker.text.reply import Reply, ReplyFormat

SCHEMAS: dict[str, dict[str, object]] = {"now": {}}
THINKING = ReplyFormat(thinking=THINK)
INSIDE = ReplyFormat(thinking=THINK, begins_thinking=True)

ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>final<|message|>"
HARMONY = ReplyFormat(thinking=thinking_marks(ANALYSIS), schemas=SCHEMAS)

# Form, what the model writes, reasoning, text, names of calls.
REPLIES = [
    (THINKING, "<think>\nLet me see.\n</think>\n\n42 is it.", "Let me see.", "42 is it.", []),
    (THINKING, "No <think>thought</think> here", "", "No <think>thought</think> here", []),
    (THINKING, "<think>\n\n</think>\n\nShort.", "", "Short.", []),
    (THINKING, "  <thi", "", "  <thi", []),
    (INSIDE, "Hm, a < b.\n</think>\nYes", "Hm, a < b.", "Yes", []),
    (INSIDE, "cut off </thi", "cut off </thi", "", []),
    (INSIDE, "never closed\n", "never closed", "", []),
    (ReplyFormat(stops=["END"]), "text <think> END more", "", "text <think> ", []),
    (ReplyFormat(thinking=THINK, stops=["."]), "<think>a. b.</think>c. d", "a. b.", "c", []),
    (
        ReplyFormat(thinking=THINK, schemas=SCHEMAS, stops=["{"]),
        '<think>a</think>b <tool_call>{"name": "now", "arguments": {"x": 1}}</tool_call>',
        "a",
        "b ",
        ["now"],
    ),
    (
        ReplyFormat(thinking=THINK, begins_thinking=True, schemas=SCHEMAS),
        'I call <tool_call>{"name": "now", "arguments": {}}</tool_call>',
        'I call <tool_call>{"name": "now", "arguments": {}}</tool_call>',
        "",
        ["now"],
    ),
    (THINKING, "<think>a</think>\n<think>b</think> c", "ab", "c", []),
    (ReplyFormat(addressee="all\n"), "all\nHi", "", "Hi", []),
    (ReplyFormat(addressee="all\n"), "allow", "", "allow", []),
    (ReplyFormat(addressee="all\n"), "al", "", "al", []),
    (
        ReplyFormat(addressee="all\n", schemas=SCHEMAS),
        "all\nI look.>>>now\n{}>>>now\n{}",
        "",
        "I look.",
        ["now", "now"],
    ),
    (
        ReplyFormat(thinking=thinking_marks("[/THINK]")),
        "[THINK]Hm.[/THINK]Yes [or no]",
        "Hm.",
        "Yes [or no]",
        [],
    ),
    (
        ReplyFormat(thinking=thinking_marks("<|END_THINKING|>")),
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes<|END_RESPONSE|>",
        "Hm.",
        "Yes",
        [],
    ),
    (
        ReplyFormat(thinking=thinking_marks("<|channel>thought")),
        "<|channel>thought\nHm.<channel|>Yes",
        "Hm.",
        "Yes",
        [],
    ),
    (HARMONY, f"{ANALYSIS}Hm.<|end|>{FINAL}Yes", "Hm.", "Yes", []),
    (HARMONY, f"<|channel|>final<|message|>{FINAL}Yes", "", "Yes", []),
    (
        HARMONY,
        f"{ANALYSIS}Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.now "
        '<|constrain|>json<|message|>{"x": 1}<|call|>',
        "Hm.",
        "",
        ["now"],
    ),
    (
        HARMONY,
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
        f"{ANALYSIS}So.<|end|>{FINAL}Yes",
        "So.",
        "I look.Yes",
        [],
    ),
    (ReplyFormat(), "中文 🙂", "", "中文 🙂", []),
]


def read(form: ReplyFormat, pieces: list[bytes]) -> tuple[str, str, list[str], str]:
    """Reasoning, text, names and arguments of calls."""
    reply = Reply(form, make_id=map("call_{}".format, itertools.count()).__next__)
    found = []
    for piece in pieces:
        reply.push(piece)
        found += reply.take()
        if reply.is_complete:
            break
    else:
        reply.flush()
        found += reply.take()
    calls = [call for one in found for call in one.calls]
    return (
        "".join(one.reasoning for one in found),
        "".join(one.text for one in found),
        [call.name for call in calls if call.id],
        "".join(call.arguments for call in calls),
    )


@pytest.mark.parametrize(("form", "said", "reasoning", "text", "calls"), REPLIES)
def test_a_reply_comes_apart(
    form: ReplyFormat, said: str, reasoning: str, text: str, calls: list[str]
) -> None:
    assert read(form, [said.encode()])[:3] == (reasoning, text, calls)


@given(st.sampled_from(REPLIES), st.data())
def test_any_chunking_gives_the_same(
    case: tuple[ReplyFormat, str, str, str, list[str]], data: st.DataObject
) -> None:
    form, said, *_ = case
    raw = said.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert read(form, pieces) == read(form, [raw])


def test_thinking_tokens_are_counted_with_their_marks() -> None:
    reply = Reply(THINKING)
    for piece in (b"<think>", b"a", b" b", b"</think>", b"\n", b"c"):
        reply.push(piece)
    assert reply.n_reasoning_tokens == 4


def test_what_is_said_after_a_call_comes_after_it() -> None:
    reply = Reply(ReplyFormat(schemas=SCHEMAS), make_id=lambda: "call_0")
    reply.push(b'Look: <tool_call>{"name": "now", "arguments": {}}</tool_call> So it is.')
    reply.flush()
    parts = [(part.text, len(part.calls)) for part in reply.take()]
    assert [(text.strip(), n_calls) for text, n_calls in parts] == [("Look:", 1), ("So it is.", 0)]


@pytest.mark.parametrize("cut", ["[", '[{"name": "no', '[{"name": "now", "arguments": {}}, {"na'])
def test_the_beginning_of_a_forced_call_is_no_text(cut: str) -> None:
    _, text, calls, _ = read(ReplyFormat(schemas=SCHEMAS, forced_calls=True), [cut.encode()])
    assert (text, calls) == ("", ["now"] if "}" in cut else [])
