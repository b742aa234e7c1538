"""Perplexity of a chat model on OpenVINO beside transformers, on the same text.

    python3 run.py bench perplexity
    python3 run.py bench perplexity --model FOLDER --text FILE

The built-in guide is measured on conversations about its topics, with questions that it was not
trained on: a model that knows nothing of a text tells little about rounding. A text is split into
windows of `--window` tokens. In each conversation or window every token but the first is scored.
"""

import argparse
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from benchmarks.report import bar, say, table
from chat_worker.backends.openvino.load import load
from chat_worker.engine.runner import ModelRunner, ScheduledTokens, TruncateSlot
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import LoadSpec
from worker_runtime.model_files.odd_paths import path_text

GUIDE = Path(__file__).parents[1] / "models" / "guide"
MODEL, TOPICS = GUIDE / "qwen2-y26hkx-guide", GUIDE / "data" / "topics.yaml"
CONVERSATION = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"
MOST_8_BIT, MOST_STEP = 0.01, 32
Logits = Callable[[list[int]], NDArray[np.float32]]
# The settings of OpenVINO, by what the table calls them.
OPENVINO: dict[str, dict[str, Any]] = {
    "openvino f32": {"precision": "f32"},
    "openvino 8 bits": {"precision": "int8"},
    "openvino 8 bits, bfloat16": {"precision": "bf16"},
    "openvino 4 bits": {"precision": "int8", "weight_bits": 4},
    "openvino 4 bits, bfloat16": {"precision": "bf16", "weight_bits": 4},
}
REFERENCE = "transformers bfloat16"


def perplexity(logits: Logits, windows: list[list[int]]) -> float:
    """e to the mean surprise of all tokens but the first of each window."""
    surprise, n_scored = 0.0, 0
    for tokens in windows:
        rows = torch.log_softmax(torch.from_numpy(logits(tokens)[:-1]).double(), -1)
        surprise -= float(rows[range(len(tokens) - 1), tokens[1:]].sum())
        n_scored += len(tokens) - 1
    return math.exp(surprise / n_scored)


def runner_logits(runner: ModelRunner, tokens: list[int]) -> NDArray[np.float32]:
    """At all positions, computed in steps of at most `MOST_STEP` tokens."""
    sampler = Sampler(SamplingParams(), [])
    sequence = Sequence(call_id=0, choice=0, tokens=tokens, limit=len(tokens), sampler=sampler)
    found = []
    for start in range(0, len(tokens), MOST_STEP):
        size = min(MOST_STEP, len(tokens) - start)
        found.append(np.array(runner.run([ScheduledTokens(sequence, 0, start, size, size)])))
    runner.apply(TruncateSlot(0, 0))
    return np.concatenate(found)


def in_transformers(folder: Path, kind: torch.dtype, windows: list[list[int]]) -> float:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).eval()

    def logits(tokens: list[int]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = model(torch.tensor([tokens])).logits[0].float().numpy()
        return found

    return perplexity(logits, windows)


def in_openvino(
    folder: Path, converted: str, windows: list[list[int]], changed: dict[str, Any]
) -> float:
    spec = LoadSpec(
        backend="openvino",
        path=path_text(folder),
        converted_dir=converted,
        n_ctx=max(map(len, windows)),
        n_parallel=1,
        **changed,
    )
    runner = load(spec, lambda share, stage: None).runner
    found = perplexity(lambda tokens: runner_logits(runner, tokens), windows)
    runner.close()
    return found


def conversations() -> Iterator[str]:
    """Of the guide, in all its languages: a question that was not trained, and the answer."""
    for topic in yaml.safe_load(TOPICS.read_text(encoding="utf-8")):
        for about in topic.values():
            if isinstance(about, dict):
                yield from (CONVERSATION.format(ask, about["answer"]) for ask in about["held_out"])


def windows_of(folder: Path, texts: Iterable[str], n_tokens: int) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found: list[list[int]] = []
    for text in texts:
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        parts = (tokens[start : start + n_tokens] for start in range(0, len(tokens), n_tokens))
        found += [part for part in parts if len(part) > 1]
    return found


def measured(folder: Path, windows: list[list[int]]) -> Iterator[tuple[str, float]]:
    yield "transformers float32", in_transformers(folder, torch.float32, windows)
    yield REFERENCE, in_transformers(folder, torch.bfloat16, windows)
    with tempfile.TemporaryDirectory() as converted:
        for name, changed in OPENVINO.items():
            yield name, in_openvino(folder, converted, windows, changed)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="run.py bench perplexity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="a folder of safetensors")
    parser.add_argument("--text", type=Path, help="default: conversations with the guide")
    parser.add_argument("--window", type=int, default=512, help="tokens")
    chosen = parser.parse_args(argv)
    texts = [chosen.text.read_text(encoding="utf-8")] if chosen.text else conversations()
    windows = windows_of(chosen.model, texts, chosen.window)
    say(f"{chosen.model.name}, {sum(map(len, windows))} tokens")
    found = dict(measured(chosen.model, windows))
    expected = found[REFERENCE]
    table(
        ["", "perplexity", f"beside {REFERENCE}"],
        [[name, f"{value:.4f}", f"{value / expected - 1:+.2%}"] for name, value in found.items()],
    )
    kept = [
        bar(name, abs(found[name] / expected - 1), MOST_8_BIT, at_most=True)
        for name in OPENVINO
        if "8 bits" in name
    ]
    return 0 if all(kept) else 1
