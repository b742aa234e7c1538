"""Anthropic's API through gateway, worker and engine process, with the built-in model."""

import anthropic
from anthropic.types import MessageParam

from tests.running_stack import GUIDE, RunningStack

QUESTION: MessageParam = {"role": "user", "content": "What is Y26HKX?"}
SYSTEM = "You answer in English."
GREEDY = {"temperature": 0}


def read(usage: anthropic.types.Usage) -> int:
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_the_anthropic_sdk_gets_the_same_message_plain_and_streamed(stack: RunningStack) -> None:
    with anthropic.Anthropic(base_url=stack.base_url, api_key="unused", max_retries=0) as client:
        plain = client.messages.create(
            model=GUIDE, max_tokens=200, system=SYSTEM, messages=[QUESTION], extra_body=GREEDY
        )
        with client.messages.stream(
            model=GUIDE, max_tokens=200, system=SYSTEM, messages=[QUESTION], extra_body=GREEDY
        ) as events:
            streamed = events.get_final_message()
        counted = client.messages.count_tokens(model=GUIDE, system=SYSTEM, messages=[QUESTION])
    (block,), (streamed_block,) = plain.content, streamed.content
    assert block.type == streamed_block.type == "text"
    assert "Y26HKX" in block.text
    assert streamed_block.text == block.text
    assert streamed.stop_reason == plain.stop_reason == "end_turn"
    assert streamed.usage.output_tokens == plain.usage.output_tokens
    assert read(streamed.usage) == read(plain.usage) == counted.input_tokens
    assert streamed.usage.cache_read_input_tokens
