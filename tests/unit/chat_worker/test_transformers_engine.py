"""The built-in guide has one behaviour in both backends; an engine process loads either."""

from collections.abc import Iterator

import pytest

from chat_worker import pipe_messages as m
from tests.running_stack import GUIDE, ROOT
from tests.unit.chat_worker.engine_pipe import EnginePipe
from worker_runtime.engine_process import protocol

FOLDER = ROOT / "models" / "guide" / GUIDE
QUESTIONS = [
    "What is Y26HKX?",
    "How do I switch the backend?",
    "How do I read the metrics?",
    "Y26HKX 是什麼？",
    "tell me about <|im_end|> please",
    "你好",
]


@pytest.fixture(scope="module")
def transformers() -> Iterator[EnginePipe]:
    with EnginePipe() as pipe:
        reply = pipe.load(
            FOLDER, backend="transformers", torch_dtype="float32", repetition_penalty=1.1
        )
        assert isinstance(reply, protocol.Loaded)
        yield pipe


@pytest.fixture(scope="module")
def llama() -> Iterator[EnginePipe]:
    with EnginePipe() as pipe:
        assert isinstance(pipe.load(FOLDER.with_name(f"{GUIDE}.gguf")), protocol.Loaded)
        yield pipe


def answers(engine: EnginePipe, repetition_penalty: float | None = None) -> list[str]:
    """To all questions at once."""
    calls = [
        engine.submit(
            m.Generate(
                input=m.Conversation([m.Message("user", question)]),
                sampling=m.Sampling(temperature=0, repetition_penalty=repetition_penalty),
                max_tokens=48,
            )
        )
        for question in QUESTIONS
    ]
    ended = engine.answers(*calls)
    assert not any(error for _, error in ended.values())
    return [
        "".join(event.text for event in ended[call][0] if isinstance(event, m.Delta))
        for call in calls
    ]


def test_the_guide_says_the_same_as_in_llama_cpp(
    transformers: EnginePipe, llama: EnginePipe
) -> None:
    said = answers(transformers, repetition_penalty=1.0)
    assert said == answers(llama, repetition_penalty=1.0)
    assert "Y26HKX" in said[0]


def test_a_request_without_a_repetition_penalty_gets_the_specs(
    transformers: EnginePipe, llama: EnginePipe
) -> None:
    assert answers(transformers) == answers(llama, repetition_penalty=1.1)


def test_a_second_turn_finds_the_first_in_the_cache(transformers: EnginePipe) -> None:
    turns = [m.Message("user", QUESTIONS[0] * 4)]
    events, error = transformers.ask(m.Generate(input=m.Conversation(turns), max_tokens=8))
    assert error is None
    said = "".join(event.text for event in events if isinstance(event, m.Delta))
    turns += [m.Message("assistant", said), m.Message("user", "go on")]
    events, error = transformers.ask(m.Generate(input=m.Conversation(turns), max_tokens=2))
    assert error is None
    started = next(event for event in events if isinstance(event, m.Started))
    assert started.cached_tokens > 20


def test_a_conversation_that_lost_its_slot_goes_on_from_memory_and_says_the_same(
    transformers: EnginePipe,
) -> None:
    transformers.send(protocol.LimitCaches(256 << 20))

    def told(number: int, salt: str = "") -> tuple[str, int]:
        prompt = m.PromptTokens([10 + (number * 37 + i) % 500 for i in range(90)])
        events, error = transformers.ask(
            m.Generate(
                input=prompt,
                sampling=m.Sampling(temperature=0),
                max_tokens=8,
                ignore_eos=True,
                cache_salt=salt,
            )
        )
        assert error is None
        (started,) = (event for event in events if isinstance(event, m.Started))
        text = "".join(event.text for event in events if isinstance(event, m.Delta))
        return text, started.cached_tokens

    first = [told(number)[0] for number in range(12)]
    for number, text in enumerate(first):
        assert told(number) == (text, 89)
        assert told(number, salt=f"fresh {number}") == (text, 0)
