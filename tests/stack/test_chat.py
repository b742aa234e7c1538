"""Chat through gateway, worker and engine process, with the built-in model."""

import concurrent.futures
import json

import httpx
import pytest

from tests.running_stack import GUIDE, RunningStack, wait_until

QUESTION = "What is Y26HKX?"
QUESTIONS = [
    "What is Y26HKX?",
    "How do I switch the backend?",
    "How do I read the metrics?",
    "你好",
]


def chat(stack: RunningStack, question: str = QUESTION, **fields: object) -> dict[str, object]:
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0} | fields
    reply = stack.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    decoded: dict[str, object] = reply.json()
    return decoded


def text_of(reply: dict[str, object], choice: int = 0) -> str:
    choices = reply["choices"]
    assert isinstance(choices, list)
    return str(choices[choice]["message"]["content"])


def test_the_openai_sdk_gets_the_same_answer_plain_and_streamed(stack: RunningStack) -> None:
    with stack.openai() as client:
        plain = client.chat.completions.create(
            model=GUIDE, messages=[{"role": "user", "content": QUESTION}], temperature=0
        )
        chunks = list(
            client.chat.completions.create(
                model=GUIDE,
                messages=[{"role": "user", "content": QUESTION}],
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Y26HKX" in streamed
    assert streamed == plain.choices[0].message.content
    assert plain.choices[0].finish_reason == "stop"
    assert plain.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens


def test_a_chinese_question_gets_whole_characters_in_every_chunk(stack: RunningStack) -> None:
    with stack.openai() as client:
        chunks = client.chat.completions.create(
            model=GUIDE,
            messages=[{"role": "user", "content": "Y26HKX 是什麼？"}],
            temperature=0,
            stream=True,
        )
        text = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert not any("\ufffd" in piece for piece in text)
    assert any("\u4e00" <= letter <= "\u9fff" for letter in "".join(text))


def test_answers_do_not_depend_on_who_else_is_served(stack: RunningStack) -> None:
    alone = {question: text_of(chat(stack, question)) for question in QUESTIONS}
    asked = QUESTIONS * 3
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        for _ in range(4):
            together = list(pool.map(lambda question: text_of(chat(stack, question)), asked))
            assert together == [alone[question] for question in asked]


def test_max_tokens_ends_an_answer_with_length(stack: RunningStack) -> None:
    reply = chat(stack, max_completion_tokens=3)
    assert reply["usage"]["completion_tokens"] == 3  # type: ignore[index]
    assert reply["choices"][0]["finish_reason"] == "length"  # type: ignore[index]


def test_stop_strings_cut_the_answer_before_them(stack: RunningStack) -> None:
    whole = text_of(chat(stack))
    marker = whole[len(whole) // 2 : len(whole) // 2 + 4]
    cut = chat(stack, stop=[marker])
    assert text_of(cut) == whole[: whole.index(marker)]
    assert cut["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]


def test_a_seed_makes_sampling_repeatable(stack: RunningStack) -> None:
    fields = {"temperature": 1.5, "top_p": 1, "seed": 7, "max_tokens": 24, "ignore_eos": True}
    first, again = (text_of(chat(stack, "Tell me anything", **fields)) for _ in range(2))
    other = text_of(chat(stack, "Tell me anything", **(fields | {"seed": 8})))
    assert first == again
    assert first != other


def test_n_choices_come_back_with_their_own_index(stack: RunningStack) -> None:
    reply = chat(stack, n=3, temperature=1.2, seed=1, max_tokens=16)
    choices = reply["choices"]
    assert isinstance(choices, list)
    assert [choice["index"] for choice in choices] == [0, 1, 2]


def test_the_history_of_a_conversation_is_not_computed_again(stack: RunningStack) -> None:
    history = [{"role": "user", "content": "How do I unload a model? " * 40}]
    first = stack.http.post(
        "/v1/chat/completions", json={"messages": history, "temperature": 0, "max_tokens": 8}
    ).json()
    history.append(first["choices"][0]["message"] | {"role": "assistant"})
    history.append({"role": "user", "content": "And then?"})
    second = stack.http.post(
        "/v1/chat/completions", json={"messages": history, "temperature": 0, "max_tokens": 8}
    ).json()
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["prompt_tokens"] * 0.9


def test_completions_take_a_bare_prompt(stack: RunningStack) -> None:
    with stack.openai() as client:
        reply = client.completions.create(model=GUIDE, prompt="Y26HKX is", max_tokens=5)
    assert reply.choices[0].text
    assert reply.usage is not None
    assert reply.usage.completion_tokens <= 5


def test_special_tokens_typed_by_a_user_are_only_text(stack: RunningStack) -> None:
    honest = chat(stack, "a")["usage"]["prompt_tokens"]  # type: ignore[index]
    forged = chat(stack, "<|im_end|>")["usage"]["prompt_tokens"]  # type: ignore[index]
    assert forged > honest + 3


def test_a_client_that_leaves_frees_the_engine_at_once(stack: RunningStack) -> None:
    body = {
        "messages": [{"role": "user", "content": "Go on for ever"}],
        "stream": True,
        "max_tokens": 1500,
        "ignore_eos": True,
        "temperature": 1.5,
    }
    for _ in range(3):
        with stack.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            next(reply.iter_lines())
    wait_until(
        (stack.models()[GUIDE]["n_leases"] == 0 for _ in iter(int, 1)), 5, "no lease is held"
    )


def test_every_stream_ends_with_done_and_carries_one_id(stack: RunningStack) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "max_tokens": 5}
    with stack.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = [line for line in reply.iter_lines() if line.startswith("data: ")]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert len({json.loads(line[6:])["id"] for line in lines[:-1]}) == 1


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "x"}], "model": "nope"}, 404, "model"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": 9}, 400, "temperature"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, 400, "max_tokens"),
        ({"messages": [{"role": "user", "content": "x"}], "frobnicate": 1}, 400, "frobnicate"),
    ],
)
def test_a_bad_request_names_its_field(
    stack: RunningStack, fields: dict[str, object], status: int, param: str
) -> None:
    reply = stack.http.post("/v1/chat/completions", json=fields)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["param"] == param
    assert error["request_id"] == reply.headers["x-request-id"]


def test_a_prompt_longer_than_the_input_limit_is_trimmed_visibly(stack: RunningStack) -> None:
    turns = [
        {"role": "user" if i % 2 == 0 else "assistant", "content": f"turn {i} " + "word " * 60}
        for i in range(60)
    ]
    reply = stack.http.post(
        "/v1/chat/completions",
        json={"messages": [*turns, {"role": "user", "content": QUESTION}], "max_tokens": 4},
    )
    assert reply.status_code == httpx.codes.OK, reply.text
    assert int(reply.headers["x-trimmed-tokens"]) > 0
