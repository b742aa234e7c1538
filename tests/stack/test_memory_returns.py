"""Memory comes back: the model's process is gone after an unload, and its parents do not grow."""

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from benchmarks.unload import RETURNED, Cycle, cycle, growth_mib
from tests.running_stack import GUIDE, MINILM, SERVICES, RunningStack

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


# glibc reserves it at a multiple of itself for each heap of an arena that is not the first.
HEAP_BYTES = 64 * 2**20


def further_arenas(process: psutil.Process) -> int:
    """Places besides the first from which glibc's allocator serves this process's threads."""
    maps = process.memory_maps(grouped=False)
    bounds = [[int(bound, 16) for bound in each.addr.split("-")] for each in maps]
    return sum(
        begin % HEAP_BYTES == 0
        and "rw" in one.perms
        and next_begin == end
        and after.perms[0] == "-"
        for (begin, end), (next_begin, _), one, after in zip(
            bounds, bounds[1:], maps, maps[1:], strict=False
        )
    )


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_the_threads_of_a_service_share_one_arena_however_many_serve_at_once(
    stack: RunningStack,
) -> None:
    def ask(n: int) -> int:
        embedding = stack.http.post("/v1/embeddings", json={"input": [f"text {n}"] * 8})
        words = [{"role": "user", "content": f"hello {n}"}]
        chat = stack.http.post("/v1/chat/completions", json={"messages": words, "max_tokens": 2})
        return max(embedding.status_code, chat.status_code)

    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(ask, range(24))) == {httpx.codes.OK}
    found = {service: further_arenas(stack.one(service)) for service in SERVICES}
    assert found == dict.fromkeys(SERVICES, 0)
