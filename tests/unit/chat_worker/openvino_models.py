"""Chat models on OpenVINO: how the worker finds them, and what they say in the test's process."""

from pathlib import Path
from typing import Any

from chat_worker.backend import Backend
from chat_worker.backends.openvino.load import load
from chat_worker.engine.runner import ModelRunner, ScheduledTokens, TruncateSlot
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import LoadSpec
from chat_worker.settings import ChatSettings

N_NEW = 24


def on_openvino(folder: Path, converted: Path, **changed: Any) -> Backend:
    plain: dict[str, Any] = {"backend": "openvino", "path": str(folder), "precision": "f32"}
    spec = LoadSpec(**(plain | {"n_ctx": 256, "converted_dir": str(converted)} | changed))
    return load(spec, lambda fraction, stage: None)


def item(tokens: list[int], start: int, n_rows: int) -> ScheduledTokens:
    sampler = Sampler(SamplingParams(), [])
    sequence = Sequence(call_id=0, choice=0, tokens=tokens, limit=512, sampler=sampler)
    return ScheduledTokens(sequence, 0, start, len(tokens) - start, n_rows)


def greedy(runner: ModelRunner, tokens: list[int]) -> list[int]:
    found, n_held = list(tokens), 0
    for _ in range(N_NEW):
        row = runner.run([item(found, n_held, 1)])[0]
        n_held = len(found)
        found.append(int(row.argmax()))
    runner.apply(TruncateSlot(0, 0))
    return found


def settings(models_dir: Path, **changed: Any) -> ChatSettings:
    plain: dict[str, Any] = {
        "models_dir": models_dir,
        "model_path": models_dir / "none",
        "builtin_models": False,
        "converted_dir": models_dir / "converted",
        "_env_file": None,
    }
    return ChatSettings(**(plain | changed))
