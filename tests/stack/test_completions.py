"""Bare prompts through the whole stack, scored as lm-evaluation-harness does it."""

import math
import re
from typing import Any

import httpx
import pytest

from tests.running_stack import GUIDE, RunningStack

END = "<|im_end|>"


def complete(stack: RunningStack, **fields: Any) -> dict[str, Any]:
    body = {"model": GUIDE, "temperature": 0} | fields
    reply = stack.http.post("/v1/completions", json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    decoded: dict[str, Any] = reply.json()
    return decoded


def tokens_of(stack: RunningStack, text: str) -> list[int]:
    reply = stack.http.post("/tokenize", json={"content": text})
    tokens: list[int] = reply.json()["tokens"]
    return tokens


def scores(stack: RunningStack, prompt: str | list[int], **fields: Any) -> dict[str, Any]:
    reply = complete(stack, prompt=prompt, echo=True, logprobs=1, **fields)
    found: dict[str, Any] = reply["choices"][0]["logprobs"]
    return found


@pytest.mark.parametrize("text", ["What is Y26HKX?", "café ☃ 文字, 你好 \U0001f917!"])
def test_a_scored_prompt_has_an_entry_for_each_token_and_each_chosen_one(
    stack: RunningStack, text: str
) -> None:
    tokens = tokens_of(stack, text)
    found = scores(stack, tokens, max_tokens=1)
    assert {len(column) for column in found.values()} == {len(tokens) + 1}
    assert found["token_logprobs"][0] is None
    assert found["top_logprobs"][0] is None
    assert all(value <= 0 for value in found["token_logprobs"][1:])
    assert found["text_offset"][-1] == len(text)
    # Each token begins where those before it have ended.
    for at, token in zip(found["text_offset"], found["tokens"], strict=True):
        if "\ufffd" not in token and at < len(text):
            assert text[at:].startswith(token)


def test_the_sum_over_a_continuation_does_not_depend_on_how_it_is_asked(
    stack: RunningStack,
) -> None:
    context, continuation = "What is", " Y26HKX?"
    n_context, n_all = (len(tokens_of(stack, t)) for t in (context, context + continuation))
    by_text, by_tokens = (
        math.fsum(scores(stack, prompt, max_tokens=1)["token_logprobs"][n_context:-1])
        for prompt in (context + continuation, tokens_of(stack, context + continuation))
    )
    assert by_text == by_tokens
    assert n_all > n_context


def test_an_end_token_has_its_entry_so_that_the_last_entry_is_never_the_prompts(
    stack: RunningStack,
) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "return_token_strs": True}
    turn = stack.http.post("/tokenize", json=asked).json()
    end_token = turn["tokens"][turn["token_strs"].index(END)]
    prompt = tokens_of(stack, "What is Y26HKX?")
    found = scores(stack, prompt, max_tokens=1, logit_bias={str(end_token): 100})
    assert found["tokens"][-1] == END
    assert len(found["tokens"]) == len(prompt) + 1


def test_a_prompt_is_scored_without_generating(stack: RunningStack) -> None:
    reply = complete(stack, prompt="What is Y26HKX?", max_tokens=0, echo=True, logprobs=0)
    (choice,) = reply["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("What is Y26HKX?", "length")
    assert reply["usage"]["completion_tokens"] == 0
    assert len(choice["logprobs"]["tokens"]) == reply["usage"]["prompt_tokens"]


@pytest.mark.parametrize("n_top", [0, 2])
def test_the_chosen_token_is_among_the_likeliest_told(stack: RunningStack, n_top: int) -> None:
    fields = {"temperature": 2, "top_p": 1, "seed": 5}
    reply = complete(stack, prompt="Hello", max_tokens=8, logprobs=n_top, **fields)
    found = reply["choices"][0]["logprobs"]
    columns = zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True)
    for token, logprob, top in columns:
        assert top[token] == logprob
        assert max(n_top, 1) <= len(top) <= n_top + 1


def test_a_stream_tells_the_same_log_probabilities(stack: RunningStack) -> None:
    fields: dict[str, Any] = {"prompt": "Hello", "max_tokens": 6, "logprobs": 1, "echo": True}
    plain = complete(stack, **fields)["choices"][0]
    with stack.openai() as client:
        chunks = list(client.completions.create(model=GUIDE, temperature=0, stream=True, **fields))
    streamed = [chunk.choices[0] for chunk in chunks]
    assert "".join(choice.text for choice in streamed) == plain["text"]
    for column in ("tokens", "token_logprobs", "text_offset"):
        joined = [one for c in streamed if c.logprobs for one in getattr(c.logprobs, column) or []]
        assert joined == plain["logprobs"][column]


def test_a_long_list_of_prompts_is_answered_in_order(stack: RunningStack) -> None:
    prompts = [f"{number}" for number in range(80)]
    reply = complete(stack, prompt=prompts, max_tokens=1, echo=True)
    texts = [choice["text"] for choice in reply["choices"]]
    assert [text.startswith(one) for text, one in zip(texts, prompts, strict=True)] == [True] * 80
    assert [choice["index"] for choice in reply["choices"]] == list(range(80))
    assert reply["usage"]["completion_tokens"] == 80


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({"regex": "[A-Z]{2}-[0-9]{3}"}, "[A-Z]{2}-[0-9]{3}"),
        ({"grammar": 'start: "yes" | "no"'}, "yes|no"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 42}}}},
            "42",
        ),
    ],
)
def test_a_bare_prompts_answer_is_held_to_a_format_too(
    stack: RunningStack, fields: dict[str, Any], form: str
) -> None:
    reply = complete(stack, prompt="Say it: ", max_tokens=20, **fields)
    assert re.fullmatch(form, reply["choices"][0]["text"])
