"""Runs OpenVINO GenAI's continuous batching on a converted model, for `run.py bench engines`.

A program of its own, because it needs another interpreter: one with openvino-genai, which brings
telemetry and tokenizers that this project does without.
"""

import itertools
from typing import Any

import numpy as np
import openvino
import openvino_genai

from benchmarks.without_server import Answer, run

BLOCK_TOKENS = 32
# Never reached: the answers have a fixed length.
END_TOKEN = 0


def load(task: dict[str, Any]) -> Answer:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_seqs = task["n_slots"]
    scheduler.max_num_batched_tokens = task["n_batch"]
    scheduler.num_kv_blocks = task["n_slots"] * task["n_ctx"] // BLOCK_TOKENS
    scheduler.enable_prefix_caching = False
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        task["folder"], scheduler, "CPU", task["properties"]
    )
    numbers = itertools.count()

    def answer(prompts: list[list[int]], n_tokens: int) -> None:
        config = openvino_genai.GenerationConfig(
            max_new_tokens=n_tokens,
            ignore_eos=True,
            eos_token_id=END_TOKEN,
            stop_token_ids={END_TOKEN},
        )
        handles = [
            pipeline.add_request(
                next(numbers), openvino.Tensor(np.array([prompt], np.int64)), config
            )
            for prompt in prompts
        ]
        while pipeline.has_non_finished_requests():
            pipeline.step()
        if any(len(handle.read_all()[0].generated_ids) != n_tokens for handle in handles):
            raise RuntimeError("short answers")

    return answer


if __name__ == "__main__":
    run(load)
