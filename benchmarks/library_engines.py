"""Measures two engines over OpenVINO as libraries on the same converted model: our own, and GenAI's
continuous batching."""

import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.chat import N_WORDS, WORDS
from benchmarks.engine_figures import Figures
from chat_worker.backends.llama_cpp.load import load_vocabulary
from chat_worker.backends.openvino.compiled import GROUPS, properties
from chat_worker.conversions import CONVERSIONS, folder_for
from chat_worker.pipe_messages import LoadSpec
from worker_runtime.model_files.odd_paths import path_text

ROOT = Path(__file__).parents[1]
BITS = 8
ALONE = "openvino auto, no server"
# GenAI with our own properties, and with those that it sets where none are given.
GENAI, GENAI_DEFAULTS = "genai, no server", "genai's defaults, no server"


def figures_without_server(name: str, python: str, gguf: Path, task: dict[str, Any]) -> Figures:
    """
    Args:
        name: `ALONE`, `GENAI` or `GENAI_DEFAULTS`.
        python: an interpreter with openvino-genai, unless it is `ALONE`.
        task: as `task_of` makes it.
    Raises:
        subprocess.CalledProcessError: it failed, with the reason on standard error.
    """
    program = "engine_alone" if name == ALONE else "genai_pipeline"
    with tempfile.TemporaryDirectory() as converted:
        place, _ = CONVERSIONS.converted(
            gguf, folder_for(converted, BITS), lambda share, stage: None
        )
        task |= {"folder": str(place), "model": str(gguf), "converted_dir": converted}
        if name == GENAI_DEFAULTS:
            task |= {"properties": {}}
        said = subprocess.run(
            [sys.executable if name == ALONE else python, "-m", f"benchmarks.{program}"],
            cwd=ROOT,
            input=msgspec.json.encode(task),
            stdout=subprocess.PIPE,
            check=True,
        )
    return msgspec.json.decode(said.stdout, type=Figures)


def task_of(
    gguf: Path,
    *,
    n_slots: int,
    n_ctx: int,
    n_batch: int,
    n_threads: int,
    words: tuple[int, ...],
    clients: tuple[int, ...],
    rounds: int,
) -> dict[str, Any]:
    """What `without_server.run` computes."""
    tokenizer, _ = load_vocabulary(LoadSpec(backend="llama.cpp", path=path_text(gguf)))

    def prompt(n_words: int) -> list[int]:
        text = " ".join(random.choices(WORDS, k=n_words))
        return tokenizer.encode(text, parse_control=False)

    return {
        "n_slots": n_slots,
        "n_ctx": n_ctx,
        "n_batch": n_batch,
        "n_threads": n_threads,
        "properties": properties("auto", "f16", n_threads=n_threads, group=GROUPS[BITS]),
        "warm_up": prompt(N_WORDS),
        "prompts": {n: [prompt(n) for _ in range(rounds)] for n in words},
        "answers": {
            n: [[prompt(N_WORDS) for _ in range(n)] for _ in range(rounds)] for n in clients
        },
    }
