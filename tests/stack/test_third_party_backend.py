"""The documented example backend, installed as a package, behind the whole stack."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installed_backend import ECHO, install
from tests.running_stack import RunningStack

MESSAGES: Any = [{"role": "user", "content": "one two three"}]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    folder: Path = tmp_path_factory.mktemp("site")
    install(folder, ECHO, echo="EchoBackend")
    settings = {"PYTHONPATH": str(folder), "MODEL_BACKEND": "echo", "MODEL_PATH": "parrot"}
    with RunningStack(folder / "stack.log", **settings) as running:
        yield running


def test_the_sdk_talks_to_the_example_backend_plain_and_streamed(stack: RunningStack) -> None:
    with stack.openai() as client:
        plain = client.chat.completions.create(model="parrot", messages=MESSAGES)
        chunks = list(
            client.chat.completions.create(model="parrot", messages=MESSAGES, stream=True)
        )
    assert plain.choices[0].message.content == "parrot: one two three"
    assert plain.usage is not None
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (3, 4)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == "parrot: one two three"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_it_is_the_default_model_and_is_listed_with_its_backend(stack: RunningStack) -> None:
    listed = stack.models()["parrot"]
    assert listed["backend"] == "echo"
    with stack.openai() as client:
        reply = client.chat.completions.create(model="", messages=MESSAGES)
    assert reply.model == "parrot"


def test_other_models_keep_their_own_backend(stack: RunningStack) -> None:
    backends = {model["backend"] for name, model in stack.models().items() if name != "parrot"}
    assert "echo" not in backends
    assert "llama.cpp" in backends
