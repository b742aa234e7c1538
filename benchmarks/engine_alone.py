"""Runs our own engine on OpenVINO without worker and gateway, for `run.py bench engines`."""

from typing import Any

from benchmarks.transformers_chat import answer_all
from benchmarks.without_server import Answer, run
from chat_worker.backends.openvino.load import load as load_model
from chat_worker.pipe_messages import LoadSpec


def load(task: dict[str, Any]) -> Answer:
    spec = LoadSpec(
        backend="openvino",
        path=task["model"],
        converted_dir=task["converted_dir"],
        n_ctx=task["n_ctx"],
        n_parallel=task["n_slots"],
        n_ubatch=task["n_batch"],
        n_threads=task["n_threads"],
    )
    runner = load_model(spec, lambda share, stage: None).runner
    return lambda prompts, n_tokens: answer_all(runner, prompts, n_tokens)


if __name__ == "__main__":
    run(load)
