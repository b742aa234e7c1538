"""Runs OpenVINO GenAI's continuous batching on a converted model, for `run.py bench engines`.

A program of its own, because it needs another interpreter: one with openvino-genai, which brings
telemetry and tokenizers that this project does without. It reads a task as JSON from standard input
and prints figures as JSON. No server and no text are between it and the pipeline: prompts are token
ids.
"""

import itertools
import json
import resource
import statistics
import sys
import time
from typing import Any

import numpy as np
import openvino
import openvino_genai

N_TOKENS = 64
BLOCK_TOKENS = 32
# Never reached: the answers have a fixed length.
END_TOKEN = 0


class Pipeline:
    def __init__(self, task: dict[str, Any]) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs = task["n_slots"]
        scheduler.max_num_batched_tokens = task["n_batch"]
        scheduler.num_kv_blocks = task["n_slots"] * task["n_ctx"] // BLOCK_TOKENS
        scheduler.enable_prefix_caching = False
        properties = task["properties"]
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            task["folder"], scheduler, "CPU", properties
        )
        self._numbers = itertools.count()

    def answer(self, prompts: list[list[int]], n_tokens: int) -> float:
        """Seconds until all prompts have answers of `n_tokens`."""
        config = openvino_genai.GenerationConfig(
            max_new_tokens=n_tokens,
            ignore_eos=True,
            eos_token_id=END_TOKEN,
            stop_token_ids={END_TOKEN},
        )
        began = time.perf_counter()
        handles = [
            self._pipeline.add_request(
                next(self._numbers), openvino.Tensor(np.array([prompt], np.int64)), config
            )
            for prompt in prompts
        ]
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        took = time.perf_counter() - began
        if any(len(handle.read_all()[0].generated_ids) != n_tokens for handle in handles):
            raise RuntimeError("short answers")
        return took


def main() -> None:
    task = json.load(sys.stdin)
    began = time.perf_counter()
    pipeline = Pipeline(task)
    pipeline.answer([task["warm_up"]], 1)
    load_s = time.perf_counter() - began
    prompts = {
        n_words: statistics.median(len(ids) / pipeline.answer([ids], 1) for ids in rounds)
        for n_words, rounds in task["prompts"].items()
    }
    answers = {
        n_clients: statistics.median(
            len(ids) * N_TOKENS / pipeline.answer(ids, N_TOKENS) for ids in rounds
        )
        for n_clients, rounds in task["answers"].items()
    }
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"load_s": load_s, "memory_mib": memory_mib, "prompts": prompts, "answers": answers}
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
