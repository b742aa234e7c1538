"""Output tokens/s of the transformers backend beside `model.generate`, same weights, same process.

    python3 run.py bench transformers --shape small
    python3 run.py bench transformers --model FOLDER --dtype float32

Both get the same prompt, number format and threads. `generate` is one greedy call, as that
library's users write it; ours goes through the engine's own scheduler and sampler.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.make_qwen_shape import QWEN_05B, Shape, write_safetensors
from benchmarks.report import bar, say, table
from chat_worker.backends.transformers.load import load
from chat_worker.backends.transformers.precision import device
from chat_worker.engine.runner import ModelRunner
from chat_worker.engine.sampling import Sampler, SamplingParams
from chat_worker.engine.scheduler import Scheduler
from chat_worker.engine.sequence import Sequence
from chat_worker.pipe_messages import LoadSpec

SMALL = Shape("qwen-shape-small", 12, 512, 8, 2, 2048, 32_768, 4_096, 8_000)
SHAPES = {"0.5b": QWEN_05B, "small": SMALL}
N_PROMPT = 64
N_TOKENS = 48
N_CLIENTS = 8
AT_LEAST_ONE_CLIENT = 1.0
AT_LEAST_EIGHT_CLIENTS = 3.0


def ours(runner: ModelRunner, n_clients: int, seed: int) -> float:
    """Seconds until `n_clients` greedy sequences have `N_TOKENS` each."""
    prompts = [prompt(1000 * seed + client) for client in range(n_clients)]
    started = time.perf_counter()
    answer_all(runner, prompts, N_TOKENS)
    return time.perf_counter() - started


def answer_all(runner: ModelRunner, prompts: list[list[int]], n_tokens: int) -> None:
    """Compute greedy answers of `n_tokens` to all prompts together, step by step, as the engine's
    loop does it."""
    scheduler = Scheduler(runner.limits)
    for index, tokens in enumerate(prompts):
        sampler = Sampler(SamplingParams(temperature=0), tokens)
        limit = len(tokens) + n_tokens
        scheduler.add(
            Sequence(call_id=index, choice=0, tokens=list(tokens), limit=limit, sampler=sampler)
        )
    while not scheduler.is_idle:
        step(runner, scheduler)
    for slot in range(runner.limits.n_slots):
        for op in scheduler.slots.drop(slot):
            runner.apply(op)


def step(runner: ModelRunner, scheduler: Scheduler) -> None:
    plan, _ = scheduler.schedule()
    for op in plan.ops:
        runner.apply(op)
    began = time.perf_counter()
    rows = iter(runner.run(plan.items))
    scheduler.commit(plan.items, time.perf_counter() - began)
    for item in plan.items:
        if not item.completes:
            continue
        sequence = item.sequence
        sequence.tokens.append(sequence.sampler.pick(next(rows)))
        if len(sequence.tokens) == sequence.limit:
            scheduler.remove(sequence)


@torch.inference_mode()
def theirs(model: Any, seed: int) -> float:
    ids = torch.tensor([prompt(1000 * seed)], device=model.device)
    started = time.perf_counter()
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=N_TOKENS,
        min_new_tokens=N_TOKENS,
        do_sample=False,
        pad_token_id=0,
    )
    return time.perf_counter() - started


def prompt(seed: int) -> list[int]:
    """Unlike any other from its first token on, so that no prefix is shared."""
    generator = torch.Generator().manual_seed(seed)
    return [int(token) for token in torch.randint(1, 4_000, (N_PROMPT,), generator=generator)]


def measure(folder: Path, arguments: argparse.Namespace) -> bool:
    torch.set_num_threads(arguments.threads)
    spec = LoadSpec(
        backend="transformers",
        path=str(folder),
        n_ctx=512,
        n_parallel=N_CLIENTS,
        n_threads=arguments.threads,
        torch_dtype=arguments.dtype,
        compile=arguments.compile,
    )
    backend = load(spec, lambda fraction, stage: None)
    say(f"{folder.name}: {backend.facts.description}, {arguments.threads} thread(s)")
    kind = getattr(torch, backend.facts.description.split()[1])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).eval().to(device())
    runners: dict[str, Callable[[int], float]] = {
        "generate, 1 client": lambda seed: theirs(model, seed),
        "y26hkx, 1 client": lambda seed: ours(backend.runner, 1, seed),
        f"y26hkx, {N_CLIENTS} clients": lambda seed: ours(backend.runner, N_CLIENTS, seed),
    }
    # In turns, so that the machine's drift hits all; the first round warms up.
    rounds = [
        {name: run(number) for name, run in runners.items()}
        for number in range(arguments.rounds + 1)
    ]
    return report(rounds[1:])


def report(rounds: list[dict[str, float]]) -> bool:
    generate, one, many = rounds[0]
    n_tokens = {generate: N_TOKENS, one: N_TOKENS, many: N_CLIENTS * N_TOKENS}
    speeds = [{name: n_tokens[name] / took for name, took in r.items()} for r in rounds]
    table(
        ["", "tokens/s"],
        [[name, f"{statistics.median(r[name] for r in speeds):.1f}"] for name in n_tokens],
    )
    alone = statistics.median(r[one] / r[generate] for r in speeds)
    together = statistics.median(r[many] / r[one] for r in speeds)
    kept = [
        bar("1 client beside generate", alone, AT_LEAST_ONE_CLIENT, at_most=False),
        bar(f"{N_CLIENTS} clients beside 1", together, AT_LEAST_EIGHT_CLIENTS, at_most=False),
    ]
    return all(kept)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench transformers", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder; made with random weights if left out")
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    parser.add_argument("--dtype", default="auto", choices=("auto", "bfloat16", "float32"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.model:
        return 0 if measure(arguments.model, arguments) else 1
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / arguments.shape
        write_safetensors(folder, SHAPES[arguments.shape], seed=1)
        return 0 if measure(folder, arguments) else 1
