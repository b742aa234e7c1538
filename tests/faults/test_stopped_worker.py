"""A worker that is stopped, not dead: its sockets stay open and nothing answers any more."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.faults.test_killed_processes import Outcome, ask_again, embed, stream
from tests.running_stack import RunningStack, wait_until

TOLD_WITHIN_S = 15.0


@pytest.mark.timeout(120)
def test_its_clients_are_told_readiness_flips_and_it_is_replaced(stack: RunningStack) -> None:
    assert ask_again(stack)
    outcome = Outcome()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stream, stack, outcome, 4000)
        assert outcome.first.wait(60)
        victim = stack.one("chat_worker")
        stopped_at = time.monotonic()
        victim.suspend()
        assert embed(stack).status_code == httpx.codes.OK
        wait_until(
            (stack.http.get("/health/ready").status_code == 503 for _ in iter(int, 1)),
            TOLD_WITHIN_S,
            "readiness flips",
        )
        running.result(60)
    assert outcome.ended_at - stopped_at < TOLD_WITHIN_S
    assert outcome.error is not None
    assert outcome.error["code"] == "worker_lost"
    assert not outcome.done
    stack.wait_ready(30)
    assert stack.one("chat_worker").pid != victim.pid
    assert ask_again(stack)


def test_a_model_that_crashes_again_and_again_is_refused_at_once_with_the_time_to_wait(
    stack: RunningStack,
) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    for _ in range(5):
        assert ask_again(stack)
        stack.one("chat_worker.engine_process").kill()
        wait_until(
            (not stack.find("chat_worker.engine_process") for _ in iter(int, 1)), 10, "it is gone"
        )
    reply = stack.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE, reply.text
    error = reply.json()["error"]
    assert error["code"] == "BACKEND_LOAD_FAILED"
    assert "crashed 5 times" in error["message"]
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert not stack.find("chat_worker.engine_process")
    assert embed(stack).status_code == httpx.codes.OK
