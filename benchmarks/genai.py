"""Measures OpenVINO GenAI's continuous batching on the models that we convert."""

import random
import subprocess
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

PROGRAM = Path(__file__).with_name("genai_pipeline.py")
BITS = 8
# With our own properties, and with those that it sets where none are given.
GENAI = {"genai int8": True, "genai int8, its defaults": False}


def genai_figures(
    python: str,
    gguf: Path,
    name: str,
    *,
    limits: dict[str, int],
    n_threads: int,
    words: tuple[int, ...],
    clients: tuple[int, ...],
    rounds: int,
) -> Figures:
    """
    Args:
        python: an interpreter with openvino-genai.
        name: one of `GENAI`.
        limits: `n_slots`, `n_ctx` and `n_batch`.
    Raises:
        subprocess.CalledProcessError: it failed, with the reason on standard error.
    """
    spec = LoadSpec(backend="llama.cpp", path=path_text(gguf))
    tokenizer, _ = load_vocabulary(spec)

    def prompt(n_words: int) -> list[int]:
        text = " ".join(random.choices(WORDS, k=n_words))
        return tokenizer.encode(text, parse_control=False)

    task: dict[str, Any] = limits | {
        "warm_up": prompt(5),
        "prompts": {n: [prompt(n) for _ in range(rounds)] for n in words},
        "answers": {
            n: [[prompt(N_WORDS) for _ in range(n)] for _ in range(rounds)] for n in clients
        },
        "properties": {},
    }
    if GENAI[name]:
        task["properties"] = properties("int8", "f16", n_threads=n_threads, group=GROUPS[BITS])
    with tempfile.TemporaryDirectory() as folder:
        cache = folder_for(folder, BITS)
        place, _ = CONVERSIONS.converted(gguf, cache, lambda share, stage: None)
        task["folder"] = str(place)
        said = subprocess.run(
            [python, str(PROGRAM)],
            input=msgspec.json.encode(task),
            stdout=subprocess.PIPE,
            check=True,
        )
    return msgspec.json.decode(said.stdout, type=Figures)
