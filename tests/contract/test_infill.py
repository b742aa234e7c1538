"""The text between a prefix and a suffix: llama-server's `/infill`, and `/v1/completions`."""

import json
from typing import Any

import pytest

from tests.contract.running_gateway import RunningGateway
from tests.contract.scripted_worker import ScriptedWorker
from tests.contract.worker_scripts import CHAT_ID, PROMPT_TOKENS

# What llama.vim and llama.vscode send.
EDITOR: dict[str, Any] = {
    "input_prefix": "def f():\n",
    "input_suffix": "\n\nf()",
    "input_extra": [{"text": "A = 1", "filename": "a.py"}],
    "prompt": "    ret",
    "n_predict": 3,
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.5,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1000,
    "response_fields": ["content", "timings/prompt_n"],
}


async def test_an_editors_request_is_answered(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    reply = await gateway.http.post("/infill", json=EDITOR)
    sent = worker.calls[-1].request
    assert (sent.infill.prefix, sent.infill.suffix) == ("def f():\n", "\n\nf()")
    assert (sent.infill.begun, sent.max_tokens) == ("    ret", 3)
    assert [(file.name, file.text) for file in sent.infill.files] == [("a.py", "A = 1")]
    body = reply.json()
    assert (body["content"], body["stop"], body["stop_type"]) == ("0 1 2 ", True, "limit")
    assert (body["model"], body["tokens_predicted"]) == (CHAT_ID, 3)
    assert (body["tokens_evaluated"], body["truncated"]) == (PROMPT_TOKENS, False)
    assert body["timings"]["predicted_n"] == 3
    ignored = reply.headers["x-ignored-parameters"].split(", ")
    assert {"n_indent", "samplers", "t_max_prompt_ms", "response_fields"} <= set(ignored)


async def test_a_stream_ends_with_the_counts_and_without_a_mark(gateway: RunningGateway) -> None:
    reply = await gateway.http.post("/infill", json=EDITOR | {"stream": True})
    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
    assert [event["content"] for event in events] == ["0 ", "1 ", "2 ", ""]
    assert [event["stop"] for event in events] == [False, False, False, True]
    assert events[-1]["tokens_predicted"] == 3


async def test_a_suffix_of_a_completion_is_filled_up_to(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    body = {"prompt": ["a", "b"], "suffix": "z", "max_tokens": 2}
    reply = await gateway.http.post("/v1/completions", json=body)
    assert [choice["text"] for choice in reply.json()["choices"]] == ["0 1 ", "0 1 "]
    sent = [(c.request.infill.prefix, c.request.infill.suffix) for c in worker.calls]
    assert sorted(sent) == [("a", "z"), ("b", "z")]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input_prefix": 5}, "input_prefix"),
        ({"input_extra": [{"filename": "a"}]}, "input_extra[0].text"),
        ({"input_extra": [{"text": "a"}] * 257}, "input_extra"),
        ({"frobnicate": 1}, "frobnicate"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_wrong_field_is_named(
    gateway: RunningGateway, fields: dict[str, Any], param: str
) -> None:
    reply = await gateway.http.post("/infill", json={"input_suffix": "x"} | fields)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
