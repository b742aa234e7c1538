"""Vectors that are kept: equal to fresh ones, from one start to the next, and never stale."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.make_minilm_gguf import write
from embed_worker.discovery import built_in_folder
from tests.running_stack import MINILM, RunningStack, wait_until

TEXTS = ["a cat", "a kitten", "income tax law"]
CHANGING = "changing"
MIB = 2**20


def vectors(stack: RunningStack, texts: list[str], model: str = MINILM) -> NDArray[np.float32]:
    reply = stack.http.post("/v1/embeddings", json={"model": model, "input": texts})
    assert reply.status_code == httpx.codes.OK, reply.text
    return np.array([row["embedding"] for row in reply.json()["data"]], np.float32)


def cache_figures(stack: RunningStack, figure: str, model: str = MINILM) -> dict[str, float]:
    """A figure by the place where vectors are kept."""
    name = f"y26hkx_embedding_cache_{figure}"
    line = rf'^{name}{{model="{model}",place="(\w+)",worker="embed-[^"]+"}} (\S+)$'
    found = re.findall(line, stack.http.get("/metrics").text, re.MULTILINE)
    return {place: float(value) for place, value in found}


def wait_for_figures(stack: RunningStack, figure: str, expected: dict[str, float]) -> None:
    """Return once they are told; a worker tells its figures every half second."""

    def told() -> Iterator[bool]:
        while True:
            yield cache_figures(stack, figure) == expected

    wait_until(told(), 10, f"{figure} are {expected}, not {cache_figures(stack, figure)}")


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, str]:
    """Settings of stacks that share a cache."""
    return {"EMBEDDING_CACHE_DIR": str(tmp_path / "vectors"), "MODELS_DIR": str(tmp_path)}


def test_vectors_outlast_a_restart_and_are_the_same(kept: dict[str, str], tmp_path: Path) -> None:
    with RunningStack(tmp_path / "first.log", **kept) as stack:
        fresh = vectors(stack, TEXTS)
        again = vectors(stack, TEXTS)
        wait_for_figures(stack, "hits_total", {"memory": 3, "disk": 0})
        wait_for_figures(stack, "misses_total", {"memory": 3, "disk": 3})
        (entries,) = {cache_figures(stack, "entries")["memory"]}
        assert (entries, cache_figures(stack, "evictions_total")["memory"]) == (3, 0)
        assert cache_figures(stack, "bytes")["memory"] >= fresh.nbytes
    with RunningStack(tmp_path / "second.log", **kept) as stack:
        from_disk = vectors(stack, TEXTS)
        wait_for_figures(stack, "hits_total", {"memory": 0, "disk": 3})
    np.testing.assert_array_equal(again, fresh)
    np.testing.assert_array_equal(from_disk, fresh)


def test_a_changed_model_finds_none_of_its_old_vectors(
    kept: dict[str, str], tmp_path: Path
) -> None:
    built_in = built_in_folder()
    assert built_in is not None
    file = tmp_path / "embedding" / f"{CHANGING}.gguf"
    write(built_in, file)
    with RunningStack(tmp_path / "stack.log", **kept) as stack:
        before = vectors(stack, TEXTS, CHANGING)
        with file.open("r+b") as weights:
            weights.seek(-MIB, os.SEEK_END)
            weights.write(bytes(MIB))
        stack.http.post("/v1/reload-embeddings")
        after = vectors(stack, TEXTS, CHANGING)
    assert (before * after).sum(axis=1).max() < 0.999
