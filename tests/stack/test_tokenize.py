"""Tokenizers and templates over HTTP, with real models."""

from typing import Any

import httpx
import pytest

from tests.running_stack import GUIDE, MINILM, RunningStack

MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "你好, 🙂 world"},
]


def post(stack: RunningStack, path: str, **body: Any) -> dict[str, Any]:
    reply = stack.http.post(path, json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    found: dict[str, Any] = reply.json()
    return found


@pytest.mark.parametrize("field", ["prompt", "content", "text"])
def test_a_text_survives_the_way_to_tokens_and_back(stack: RunningStack, field: str) -> None:
    text = "memory 記憶體 🙂 <|im_end|>"
    tokens = post(stack, "/tokenize", **{field: text}, with_pieces=True)["tokens"]
    ids = [token["id"] for token in tokens]
    back = post(stack, "/detokenize", tokens=ids)
    assert back == {"prompt": text, "content": text}


def test_pieces_of_a_character_are_told_as_bytes(stack: RunningStack) -> None:
    text = "媽 🤗 ok"
    tokens = post(stack, "/tokenize", content=text, with_pieces=True)["tokens"]
    pieces = [token["piece"] for token in tokens]
    assert any(isinstance(piece, list) for piece in pieces)
    raw = b"".join(p.encode() if isinstance(p, str) else bytes(p) for p in pieces)
    assert raw.decode() == text


def test_a_conversation_has_the_tokens_that_a_completion_is_charged_for(
    stack: RunningStack,
) -> None:
    counted = post(stack, "/tokenize", model=GUIDE, messages=MESSAGES, return_token_strs=True)
    rendered = post(stack, "/apply-template", messages=MESSAGES)
    reply = post(stack, "/v1/chat/completions", messages=MESSAGES, max_tokens=1)
    assert counted["count"] == len(counted["tokens"]) == reply["usage"]["prompt_tokens"]
    assert rendered["n_tokens"] == counted["count"]
    assert counted["max_model_len"] >= counted["count"]
    assert "<|im_start|>assistant" in rendered["prompt"]
    assert "".join(counted["token_strs"]).startswith("<|im_start|>system\nBe short.")


def test_what_a_template_wrote_can_be_read_as_such(stack: RunningStack) -> None:
    rendered = post(stack, "/apply-template", messages=MESSAGES)
    prompt = rendered["prompt"]
    as_text = post(stack, "/tokenize", prompt=prompt, parse_special=False)
    assert as_text["count"] > rendered["n_tokens"]
    read = post(stack, "/tokenize", prompt=prompt)
    assert read["count"] == rendered["n_tokens"]
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 20}
    chat = post(stack, "/v1/chat/completions", messages=MESSAGES, **asked)
    bare = post(stack, "/v1/completions", prompt=prompt, **asked)
    assert bare["usage"]["prompt_tokens"] == rendered["n_tokens"]
    assert bare["choices"][0]["text"] == chat["choices"][0]["message"]["content"]


def test_a_template_can_stop_before_the_answer(stack: RunningStack) -> None:
    asked: dict[str, Any] = {"messages": MESSAGES, "add_generation_prompt": False}
    rendered = post(stack, "/apply-template", **asked)
    assert rendered["prompt"].rstrip().endswith("<|im_end|>")
    assert post(stack, "/tokenize", **asked)["count"] == rendered["n_tokens"]


BEGUN = [*MESSAGES, {"role": "assistant", "content": "Sure,"}]
# By what is asked for: how a prompt ends whose last message is an assistant's.
ENDS: list[tuple[dict[str, bool], str]] = [
    ({}, "Sure,"),
    ({"continue_final_message": True}, "Sure,"),
    ({"continue_final_message": True, "add_generation_prompt": False}, "Sure,"),
    ({"continue_final_message": False}, "<|im_start|>assistant"),
    ({"continue_final_message": False, "add_generation_prompt": False}, "Sure,<|im_end|>"),
    ({"add_generation_prompt": False}, "Sure,<|im_end|>"),
    ({"add_generation_prompt": True}, "<|im_start|>assistant"),
]


@pytest.mark.parametrize(("asked", "end"), ENDS, ids=lambda each: str(each))
def test_a_conversation_can_be_continued_closed_or_answered(
    stack: RunningStack, asked: dict[str, bool], end: str
) -> None:
    rendered = post(stack, "/apply-template", messages=BEGUN, **asked)
    assert rendered["prompt"].rstrip().endswith(end)
    assert post(stack, "/tokenize", messages=BEGUN, **asked)["count"] == rendered["n_tokens"]


def test_an_embedding_models_tokens_are_those_it_is_charged_for(stack: RunningStack) -> None:
    tokens = post(stack, "/tokenize", model=MINILM, prompt="a small machine")
    reply = post(stack, "/v1/embeddings", model=MINILM, input="a small machine")
    assert tokens["count"] == reply["usage"]["prompt_tokens"]
    again = post(stack, "/v1/embeddings", model=MINILM, input=tokens["tokens"])
    assert again["usage"] == reply["usage"]
    assert again["data"] == reply["data"]


def test_an_embedding_models_tokens_have_texts_and_can_do_without_special_ones(
    stack: RunningStack,
) -> None:
    whole = post(stack, "/tokenize", model=MINILM, prompt="hello world", return_token_strs=True)
    assert whole["token_strs"] == ["[CLS]", "hello", "world", "[SEP]"]
    asked: dict[str, Any] = {"model": MINILM, "content": "hello world", "add_special": False}
    bare = post(stack, "/tokenize", **asked, with_pieces=True)
    assert bare["tokens"] == [{"id": 7592, "piece": "hello"}, {"id": 2088, "piece": "world"}]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, None),
        ("/tokenize", {"prompt": "a", "content": "b"}, None),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"messages": MESSAGES, "model": MINILM}, "messages"),
        ("/tokenize", {"prompt": "a", "parse_special": True, "model": MINILM}, "parse_special"),
        ("/tokenize", {"prompt": "a", "unknown": 1}, "unknown"),
        ("/detokenize", {"tokens": [2**24]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [101], "model": MINILM}, "model"),
        ("/v1/chat/completions", {"messages": MESSAGES, "model": MINILM}, "model"),
        ("/v1/completions", {"prompt": "x", "model": MINILM.upper()}, "model"),
        ("/v1/responses", {"input": "x", "model": MINILM}, "model"),
        ("/apply-template", {"messages": "x"}, "messages"),
        ("/apply-template", {}, "messages"),
    ],
)
def test_bad_requests_are_400_and_name_the_field(
    stack: RunningStack, path: str, body: dict[str, Any], param: str | None
) -> None:
    reply = stack.http.post(path, json=body)
    assert reply.status_code == httpx.codes.BAD_REQUEST, reply.text
    assert reply.json()["error"]["param"] == param


def test_an_unknown_model_is_404(stack: RunningStack) -> None:
    reply = stack.http.post("/tokenize", json={"model": "none", "prompt": "a"})
    assert reply.status_code == httpx.codes.NOT_FOUND
