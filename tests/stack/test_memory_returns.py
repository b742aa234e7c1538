"""Memory comes back: the model's process is gone after an unload, and its parents do not grow."""

import httpx
import pytest

from benchmarks.unload import RETURNED, Cycle, cycle, growth_mib
from tests.running_stack import GUIDE, MINILM, RunningStack

CYCLES = 3
# Of a first few loads, which still fill tables; `bench unload` looks at many.
GROWTH_MIB = 8.0
# Embedding requests of 8 MB each, more than the model takes, and what they may leave in a process:
# a few that are on their way, what lies between two looks for garbage, and what allocators keep.
N_REFUSED = 40
LARGE_TEXTS = ["word " * 400_000] * 4
LEFT_MB = 130


@pytest.mark.parametrize(
    ("model", "module"),
    [(GUIDE, "chat_worker.engine_process"), (MINILM, "embed_worker.encoder_process")],
)
def test_an_unload_gives_back_what_the_load_took(
    stack: RunningStack, model: str, module: str
) -> None:
    cycles: list[Cycle] = []
    for _ in range(CYCLES):
        cycles.append(cycle(stack, model))
        assert not stack.find(module)
    assert cycles[-1].returned >= RETURNED
    assert growth_mib(cycles) <= GROWTH_MIB


@pytest.mark.parametrize("field", ["truncate", "model", "dimensions"])
def test_refused_large_requests_leave_nothing_in_gateway_and_worker(
    stack: RunningStack, field: str
) -> None:
    value = {"truncate": "none", "model": "not-here", "dimensions": 5000}[field]
    processes = [stack.one("gateway"), stack.one("embed_worker")]
    before = [process.memory_info().rss for process in processes]
    for _ in range(N_REFUSED):
        reply = stack.http.post("/v1/embeddings", json={"input": LARGE_TEXTS, field: value})
        assert reply.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND)
    for process, bytes_before in zip(processes, before, strict=True):
        grown_mb = (process.memory_info().rss - bytes_before) / 1e6
        assert grown_mb <= LEFT_MB, process.cmdline()
