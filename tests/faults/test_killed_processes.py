"""kill -9 of each process while streams run: others finish, the victim's clients learn it."""

import json
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.running_stack import RunningStack, wait_until

N_STREAMS = 8
SPOKEN_AFTER_S = 2.0
# Long enough for a kill in the middle.
N_TOKENS = 1500


class Outcome:
    """How one stream ended, and when."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.lines: list[str] = []
        self.broken = False
        self.ended_at = 0.0

    @property
    def error(self) -> dict[str, object] | None:
        found = [line for line in self.lines if line.startswith('data: {"error"')]
        return json.loads(found[0][6:])["error"] if found else None

    @property
    def done(self) -> bool:
        return "data: [DONE]" in self.lines


def stream(stack: RunningStack, outcome: Outcome, max_tokens: int) -> None:
    body = {
        "messages": [{"role": "user", "content": "Go on"}],
        "stream": True,
        "ignore_eos": True,
        "max_tokens": max_tokens,
    }
    try:
        with httpx.stream(
            "POST", f"{stack.base_url}/v1/chat/completions", json=body, timeout=120
        ) as reply:
            for line in reply.iter_lines():
                outcome.lines.append(line)
                outcome.first.set()
    except httpx.TransportError:
        outcome.broken = True
    outcome.ended_at = time.monotonic()


def start_streams(
    stack: RunningStack, pool: ThreadPoolExecutor, n_tokens: int = N_TOKENS
) -> tuple[list[Outcome], list[Future[None]]]:
    outcomes = [Outcome() for _ in range(N_STREAMS)]
    running = [pool.submit(stream, stack, outcome, n_tokens) for outcome in outcomes]
    assert outcomes[0].first.wait(60)
    return outcomes, running


def embed(stack: RunningStack) -> httpx.Response:
    return stack.http.post("/v1/embeddings", json={"input": "hello"})


@pytest.mark.parametrize("victim", ["chat_worker.engine_process", "chat_worker"])
def test_killing_chat_tells_its_clients_and_spares_the_rest(
    stack: RunningStack, victim: str
) -> None:
    assert embed(stack).status_code == httpx.codes.OK
    gateway = stack.one("gateway")
    with ThreadPoolExecutor(N_STREAMS) as pool:
        outcomes, running = start_streams(stack, pool)
        killed_at = time.monotonic()
        stack.one(victim).kill()
        assert embed(stack).status_code == httpx.codes.OK
        for future in running:
            future.result(30)
    answering = [outcome for outcome in outcomes if not outcome.done]
    assert answering, "the kill came after every stream had ended"
    for outcome in answering:
        if outcome.error is not None:
            assert outcome.ended_at - killed_at < SPOKEN_AFTER_S
            assert outcome.error["code"]
    assert stack.one("gateway") == gateway
    wait_until((ask_again(stack) for _ in iter(int, 1)), 30, "chat answers again")


def ask_again(stack: RunningStack) -> bool:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    return stack.http.post("/v1/chat/completions", json=body).status_code == httpx.codes.OK


@pytest.mark.parametrize("victim", ["embed_worker.encoder_process", "embed_worker"])
def test_killing_embeddings_does_not_touch_running_chats(stack: RunningStack, victim: str) -> None:
    assert embed(stack).status_code == httpx.codes.OK
    with ThreadPoolExecutor(N_STREAMS) as pool:
        # All are read to their end.
        outcomes, running = start_streams(stack, pool, n_tokens=400)
        stack.one(victim).kill()
        for future in running:
            future.result(120)
    assert all(outcome.done for outcome in outcomes)
    wait_until((embed(stack).status_code == httpx.codes.OK for _ in iter(int, 1)), 30, "it embeds")


def test_a_killed_gateway_comes_back_and_the_engines_forget_its_requests(
    stack: RunningStack,
) -> None:
    with ThreadPoolExecutor(N_STREAMS) as pool:
        outcomes, running = start_streams(stack, pool)
        engine = stack.one("chat_worker.engine_process")
        stack.one("gateway").kill()
        for future in running:
            future.result(30)
    answering = [outcome for outcome in outcomes if not outcome.done]
    assert answering, "the kill came after every stream had ended"
    assert all(outcome.broken for outcome in answering)
    stack.wait_ready(30)
    assert ask_again(stack)
    assert stack.one("chat_worker.engine_process") == engine


def test_killing_the_supervisor_leaves_no_process_behind(stack: RunningStack) -> None:
    assert ask_again(stack)
    family = stack.processes()
    stack.supervisor().kill()
    _, alive = psutil.wait_procs(family, timeout=45)
    assert not alive
