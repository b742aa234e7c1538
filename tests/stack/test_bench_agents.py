"""`run.py bench agents` runs to its end and prints what it measured."""

from pathlib import Path

import pytest

from benchmarks import agents
from benchmarks.make_qwen_shape import TINY, write_gguf


def test_agents_are_measured_with_shared_and_own_prompts_and_a_chat_beside_a_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_SERVER_BIN", raising=False)
    model = tmp_path / "tiny.gguf"
    write_gguf(model, TINY, seed=1)
    sizes = ["--agents", "6", "--words", "60", "--tokens", "8", "--chat-words", "60"]
    agents.main(["--model", str(model), "--rounds", "1", *sizes])
    printed = capsys.readouterr().out.splitlines()
    rows = [[float(f) for f in line.split()[1:]] for line in printed if line.startswith("y26hkx")]
    # Wall time, then two figures of the first token and three of the gaps.
    shared, own, chat = rows
    for wall, *first, p50, p95, longest in (shared, own):
        assert 0 < min(first) <= max(first) < wall
        assert 0 <= p50 <= p95 <= longest
    alone, beside, *_ = chat
    assert min(alone, beside) > 0
