"""Two models by turns where memory takes one of them, and one where it takes none.

Nothing may fail in the first case, and nothing be killed: who asks waits for its turn. In the
second each request is told at once why, and the processes live on.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec

from benchmarks.report import bar, say, table
from common.cgroup import oom_kills
from tests.running_stack import GUIDE, ROOT, RunningStack

GUIDE_FILE = ROOT / "models" / "guide" / f"{GUIDE}.gguf"
MODELS = ("first", "second")
N_CLIENTS = 4
N_REFUSALS = 20
REFUSED_WITHIN_S = 0.1
CONTEXT = 2048
# Of the loads that requests may cause, were each of them to find the other model.
MOST_SWITCHES = 0.5
NO_ROOM_GB = 0.01


class Answer(msgspec.Struct, frozen=True):
    """
    Args:
        status: of HTTP; 0: no answer came.
    """

    status: int
    seconds: float
    error: dict[str, object]


def limited_stack(folder: Path, limit_gb: float, **env: str) -> RunningStack:
    """A stack with two models of the same size, within a limit."""
    models = folder / "models"
    models.mkdir(exist_ok=True)
    for model in MODELS:
        shutil.copy(GUIDE_FILE, models / f"{model}.gguf")
    settings = {"MODELS_DIR": str(models), "LLAMA_CTX": str(CONTEXT)} | env
    return RunningStack(folder / "stack.log", MODEL_MEMORY_LIMIT_GB=str(limit_gb), **settings)


def needed_gb(folder: Path) -> float:
    """What one of the models needs, as the refusal of a stack without room tells it."""
    with limited_stack(folder, NO_ROOM_GB) as stack:
        return float(str(ask(stack, MODELS[0]).error["needed_bytes"])) / 2**30


def ask(stack: RunningStack, model: str) -> Answer:
    turn = {"role": "user", "content": "What is Y26HKX?"}
    body = {"model": model, "messages": [turn], "max_tokens": 16}
    began_s = time.perf_counter()
    try:
        reply = stack.http.post("/v1/chat/completions", json=body)
    except httpx.TransportError as error:
        return Answer(0, time.perf_counter() - began_s, {"message": type(error).__name__})
    took_s = time.perf_counter() - began_s
    ok = reply.status_code == httpx.codes.OK
    return Answer(reply.status_code, took_s, {} if ok else reply.json()["error"])


def take_turns(stack: RunningStack, seconds: float) -> list[Answer]:
    """Each client asks one model, then the other, until time is up."""
    until_s = time.monotonic() + seconds

    def client(number: int) -> list[Answer]:
        answers: list[Answer] = []
        while time.monotonic() < until_s:
            answers.append(ask(stack, MODELS[(number + len(answers)) % len(MODELS)]))
        return answers

    with ThreadPoolExecutor(N_CLIENTS) as clients:
        return [answer for answers in clients.map(client, range(N_CLIENTS)) for answer in answers]


def n_loads(stack: RunningStack) -> int:
    return stack.log.read_text(errors="replace").count(" is loaded (")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py bench pressure", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args(argv).minutes
    kills_before = oom_kills()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        need = needed_gb(folder)
        with limited_stack(folder, need * 1.5) as stack:
            answers, switches = take_turns(stack, minutes * 60), n_loads(stack)
        with limited_stack(folder, NO_ROOM_GB) as stack:
            ask(stack, MODELS[0])
            refused = [ask(stack, MODELS[n % len(MODELS)]) for n in range(N_REFUSALS)]
            alive = stack.find("chat_worker")
    failed = [answer for answer in answers if answer.status != httpx.codes.OK]
    waits = sorted(answer.seconds for answer in answers)
    table(
        ["requests", "failed", "switches", "p50 s", "p95 s", "worst s"],
        [
            [
                str(len(answers)),
                str(len(failed)),
                str(switches),
                f"{statistics.median(waits):.2f}",
                f"{waits[int(len(waits) * 0.95)]:.2f}",
                f"{waits[-1]:.2f}",
            ]
        ],
    )
    for answer in failed[:3]:
        say(f"     {answer.status}: {answer.error.get('message')}")
    told = [a for a in refused if "needed_bytes" in a.error and "limit_bytes" in a.error]
    worst_s = max(answer.seconds for answer in refused)
    kept = [
        bar("failed requests", len(failed), 0, at_most=True),
        bar("kills for lack of memory", oom_kills() - kills_before, 0, at_most=True),
        bar("switches a request", switches / len(answers), MOST_SWITCHES, at_most=True),
        bar("refusals with the arithmetic", len(told), N_REFUSALS, at_most=False),
        bar("slowest refusal", worst_s * 1000, REFUSED_WITHIN_S * 1000, at_most=True, unit=" ms"),
        bar("chat workers alive after them", len(alive), 1, at_most=False),
    ]
    return 0 if all(kept) else 1
