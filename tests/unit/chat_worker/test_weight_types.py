"""A model in each kind of weights that people use, through the real engine: it says what it says in
16 bits, with the order of weights that the processor likes and without."""

import math
from pathlib import Path

import pytest

from benchmarks.make_qwen_shape import quantize
from chat_worker import pipe_messages as m
from tests.unit.chat_worker.conftest import GUIDE
from tests.unit.chat_worker.engine_pipe import EnginePipe
from worker_runtime.engine_process import protocol

# Between its log-probabilities of a text's tokens and those in 16 bits, on average; half as much
# was measured.
TOLERATED = {
    "BF16": 0.02,
    "Q8_0": 0.05,
    "Q6_K": 0.13,
    "Q5_K_M": 0.2,
    "Q4_K_M": 0.3,
    "Q4_0": 0.35,
    "IQ4_XS": 0.4,
}
# Between the two orders of the same weights; 0.03 was measured.
BETWEEN_ORDERS = 0.06
QUESTION = m.Conversation([m.Message("user", "What is Y26HKX?")])
TEXT = "Y26HKX is a small server that runs language models on your own machine, through one API."
GREEDY = m.Sampling(temperature=0)


@pytest.fixture(scope="module")
def in_16_bits() -> tuple[str, list[float]]:
    return said(GUIDE)


def said(path: Path, *, extra_buffers: bool = True) -> tuple[str, list[float]]:
    """The model's answer to a question, and its log-probabilities of the tokens of a text."""
    with EnginePipe() as engine:
        assert isinstance(engine.load(path, extra_buffers=extra_buffers), protocol.Loaded)
        answer = engine.ask(m.Generate(input=QUESTION, sampling=GREEDY, max_tokens=16))
        scoring = m.Generate(input=m.Prompt(TEXT), echo=True, top_logprobs=0, max_tokens=0)
        scored = engine.ask(scoring)
    text = "".join(event.text for event in answer[0] if isinstance(event, m.Delta))
    deltas = (event for event in scored[0] if isinstance(event, m.Delta))
    # The first token has none.
    _, *logprobs = (token.chosen.logprob for delta in deltas for token in delta.logprobs)
    return text, logprobs


def between(one: list[float], other: list[float]) -> float:
    assert len(one) >= len(TEXT.split())
    return math.fsum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


@pytest.mark.parametrize("label", TOLERATED)
def test_weights_of_this_type_say_what_those_of_16_bits_say(
    label: str, in_16_bits: tuple[str, list[float]], tmp_path: Path
) -> None:
    path = tmp_path / f"guide-{label}.gguf"
    quantize(GUIDE, path, label)
    text, logprobs = said(path)
    assert text == in_16_bits[0]
    assert between(logprobs, in_16_bits[1]) < TOLERATED[label]
    plain_text, plain = said(path, extra_buffers=False)
    assert plain_text == text
    assert between(plain, logprobs) < BETWEEN_ORDERS


def test_weights_of_16_bits_say_the_same_in_both_orders(
    in_16_bits: tuple[str, list[float]],
) -> None:
    text, logprobs = said(GUIDE, extra_buffers=False)
    assert text == in_16_bits[0]
    assert between(logprobs, in_16_bits[1]) < BETWEEN_ORDERS
