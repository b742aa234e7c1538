"""kill -9 of an encoder in the middle of its work: who waits gets the right vectors still."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
from numpy.typing import NDArray

from tests.running_stack import RunningStack, wait_until

N_CLIENTS = 12
N_TEXTS = 16
ANSWERED_S = 60.0


def texts_of(client: int) -> list[str]:
    return [f"client {client} asks for text {i} " + "and more words " * 40 for i in range(N_TEXTS)]


def vectors(stack: RunningStack, texts: list[str]) -> NDArray[np.float64]:
    reply = httpx.post(
        f"{stack.base_url}/v1/embeddings",
        json={"input": texts},
        timeout=ANSWERED_S,
        trust_env=False,
    )
    assert reply.status_code == httpx.codes.OK, reply.text
    rows = sorted(reply.json()["data"], key=lambda row: row["index"])
    return np.array([row["embedding"] for row in rows])


def test_every_waiter_of_a_killed_encoder_gets_its_own_vectors(stack: RunningStack) -> None:
    vectors(stack, ["warm"])
    victim = stack.one("embed_worker.encoder_process")
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        asked = [pool.submit(vectors, stack, texts_of(client)) for client in range(N_CLIENTS)]
        wait_until(many_are_in(stack), ANSWERED_S, "the requests to be in work")
        victim.kill()
        killed_s = time.monotonic()
        answers = [future.result(ANSWERED_S) for future in asked]
    assert time.monotonic() - killed_s < ANSWERED_S
    assert stack.one("embed_worker.encoder_process").pid != victim.pid
    for client, answer in enumerate(answers):
        again = vectors(stack, texts_of(client)[:2])
        assert np.abs(np.sum(answer[:2] * again, axis=1) - 1).max() < 1e-3
        assert answer.shape[0] == N_TEXTS


def many_are_in(stack: RunningStack) -> Iterator[bool]:
    while True:
        workers = stack.http.get("/health/detailed").json()["workers"]["embed"]
        yield workers[0]["n_active"] >= N_CLIENTS // 2
