"""One table says in which range a number of a request is, to the gateway and to the worker."""

import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from chat_worker.input_processor import SAMPLING_RANGES
from chat_worker.pipe_messages import Sampling
from common.sampling_ranges import API_RANGES, RANGES, Range
from gateway.schemas.chat import ChatRequest
from gateway.schemas.messages import MessagesRequest
from gateway.schemas.sampling import Bias
from gateway.settings import GatewaySettings

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "logprobs": True}
# Where a chat request has another range than the worker.
NARROWER = {"max_tokens": "answer.max_tokens", "top_k": "openai.top_k"}


def number(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def taken(field: str, value: float) -> bool:
    try:
        ChatRequest.model_validate(CHAT | {field: number(value)})
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("field", sorted(RANGES.keys() - {"logit_bias"}))
def test_the_gateway_takes_what_is_within_the_table(field: str) -> None:
    found = (RANGES | API_RANGES)[NARROWER.get(field, field)]
    step = 1 if isinstance(found.high, int) else 0.001
    assert taken(field, found.low)
    assert taken(field, found.high)
    assert not taken(field, found.low - step)
    assert not taken(field, found.high + step)


def test_biases_are_within_the_table() -> None:
    adapter = TypeAdapter(Bias)
    assert adapter.validate_python(RANGES["logit_bias"].high) == RANGES["logit_bias"].high
    with pytest.raises(ValidationError):
        adapter.validate_python(RANGES["logit_bias"].high + 1)


def test_what_an_api_lets_pass_is_within_the_worker_s_range() -> None:
    """Except seeds and -1 of top_k, which the gateway writes in another way."""
    answers, cold = API_RANGES["answer.max_tokens"], API_RANGES["anthropic.temperature"]
    assert all(map(RANGES["max_tokens"].holds, answers))
    assert all(map(RANGES["temperature"].holds, cold))


def test_anthropic_s_api_refuses_what_is_hotter_than_one() -> None:
    body = CHAT | {"max_tokens": 3, "temperature": 1.1}
    del body["logprobs"]
    with pytest.raises(ValidationError, match="temperature"):
        MessagesRequest.model_validate(body)


def test_the_worker_checks_all_that_a_sampler_is_given() -> None:
    numbers = {name for name in Sampling.__struct_fields__ if name in RANGES}
    assert numbers == {*SAMPLING_RANGES, "repetition_penalty", "logit_bias"}


def test_defaults_are_the_same_on_both_sides() -> None:
    sampling, settings = Sampling(), GatewaySettings()
    assert (sampling.temperature, sampling.top_p) == (
        settings.default_temperature,
        settings.default_top_p,
    )


def test_no_number_is_in_no_range() -> None:
    assert not Range(-math.inf, math.inf).holds(math.nan)
