"""LiteLLM's proxy with a mocked model: what `run.py bench gateway` has beside ours."""

import asyncio
import contextlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from benchmarks.http_load import flood, one_by_one
from benchmarks.peer import pin, wait_for
from benchmarks.report import bar, table
from tests.running_stack import free_port

PATH = "/v1/chat/completions"
START_S = 120
N_ROUNDS = 3


class Figures(NamedTuple):
    """
    Args:
        rate: chat requests per second, of 16 clients.
        added_s: median seconds that one chat takes longer than its worker does.
        rss_mib: resident memory, of all its processes.
        start_s: from the command to its first sign of health.
    """

    rate: float
    added_s: float
    rss_mib: float
    start_s: float


def litellm_figures(binary: str, body: bytes) -> Figures:
    """Its proxy's figures, whose replies cost no worker anything.

    Args:
        binary: the command of `litellm[proxy]`.
        body: of a chat request.
    """
    with _proxy(binary) as (port, process, start_s):
        added_s = asyncio.run(one_by_one(port, PATH, body))
        rates = [asyncio.run(flood(port, PATH, body, n_each=20)) for _ in range(N_ROUNDS)]
        family = [process, *process.children(recursive=True)]
        rss = sum(each.memory_info().rss for each in family) / 2**20
    return Figures(statistics.median(rates), added_s, rss, start_s)


def compare(ours: Figures, theirs: Figures) -> None:
    """Print both, and the ratios that are to be kept."""
    rows = [
        [name, f"{rate:.0f}", f"{added_s * 1e3:.2f}", f"{rss_mib:.0f}", f"{start_s:.1f}"]
        for name, (rate, added_s, rss_mib, start_s) in (("gateway", ours), ("LiteLLM", theirs))
    ]
    table(["chat", "requests/s", "added p50 ms", "memory MiB", "start s"], rows)
    bar("chat requests/s, of LiteLLM's", ours.rate / theirs.rate, 12, at_most=False)
    bar("added p50, of LiteLLM's", ours.added_s / theirs.added_s, 1 / 5, at_most=True)
    bar("memory, of LiteLLM's", ours.rss_mib / theirs.rss_mib, 1 / 3, at_most=True)
    bar("start, of LiteLLM's", ours.start_s / theirs.start_s, 1 / 4, at_most=True)


@contextlib.contextmanager
def _proxy(binary: str) -> Iterator[tuple[int, psutil.Process, float]]:
    """The proxy, on the core of our gateway: port, process, and seconds that it took to start."""
    port = free_port()
    mock = {"model": "openai/null", "api_key": "none", "mock_response": " token"}
    config = {"model_list": [{"model_name": "null-chat", "litellm_params": mock}]}
    # Without it the proxy wants a key, which ours does not want here either.
    allowed = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(msgspec.json.encode(config))  # JSON is YAML
        arguments = [binary, "--config", str(path), "--port", str(port), "--host", "127.0.0.1"]
        began_s = time.monotonic()
        process = subprocess.Popen(
            arguments,
            env=psutil.Process().environ() | allowed,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        try:
            pin(process.pid, 0)
            wait_for(f"http://127.0.0.1:{port}/health/liveliness", within_s=START_S)
            yield port, psutil.Process(process.pid), time.monotonic() - began_s
        finally:
            process.terminate()
            process.wait()
