"""A transformers folder behind the whole stack."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_stack import GUIDE, ROOT, RunningStack

FOLDER = ROOT / "models" / "guide" / GUIDE


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    log: Path = tmp_path_factory.mktemp("stack") / "stack.log"
    settings = {"MODEL_PATH": str(FOLDER), "MODEL_BACKEND": "transformers", "TORCH_DTYPE": "fp32"}
    with RunningStack(log, **settings) as running:
        yield running


def test_a_folder_of_safetensors_answers_as_its_gguf_does(stack: RunningStack) -> None:
    with stack.openai() as client:
        reply = client.chat.completions.create(
            model=GUIDE,
            messages=[{"role": "user", "content": "What is Y26HKX?"}],
            temperature=0,
            logprobs=True,
        )
    assert "Y26HKX" in (reply.choices[0].message.content or "")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].logprobs is not None
