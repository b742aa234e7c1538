"""What was computed for a conversation is found again: beside others, after an unload and after a
restart of all processes; by nobody else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.running_stack import GUIDE, RunningStack

KEYS = {"first": "key-of-the-first-person", "second": "key-of-the-second-person"}
N_AGENTS = 10


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[RunningStack]:
    plain = {
        "API_KEYS": ",".join(KEYS.values()),
        "MAX_CONCURRENT_REQUESTS": "4",
        "LLAMA_CTX": "1024",
    }
    with RunningStack(folder / "stack.log", **(plain | settings)) as stack:
        yield stack


def conversation(number: int) -> list[dict[str, str]]:
    text = f"{number} " + "tell me about the settings of this server " * 8
    return [{"role": "user", "content": text}]


def ask(
    stack: RunningStack, messages: list[dict[str, str]], key: str = "first"
) -> tuple[str, dict[str, Any]]:
    body = {"model": GUIDE, "messages": messages, "max_tokens": 8, "temperature": 0}
    headers = {"authorization": f"Bearer {KEYS[key]}"}
    reply = stack.http.post("/v1/chat/completions", json=body, headers=headers).json()
    return reply["choices"][0]["message"]["content"], reply["usage"]


def next_turn(number: int, answer: str) -> list[dict[str, str]]:
    return [
        *conversation(number),
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "and then?"},
    ]


def memory_of(stack: RunningStack) -> dict[str, int]:
    headers = {"authorization": f"Bearer {KEYS['first']}"}
    found: dict[str, int] = stack.http.get("/v1/models", headers=headers).json()["data"][0][
        "memory"
    ]
    return found


def cached(usage: dict[str, Any]) -> int:
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def test_conversations_beyond_the_slots_are_found_again_by_the_key_that_had_them(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as stack:
        first = [ask(stack, conversation(number)) for number in range(N_AGENTS)]
        for number, (answer, before) in enumerate(first):
            text, usage = ask(stack, next_turn(number, answer))
            # All of the first prompt, but for the token that is computed for its logits.
            assert cached(usage) >= before["prompt_tokens"] - 1
            assert cached(usage) < usage["prompt_tokens"]
            told, others = ask(stack, next_turn(number, answer), "second")
            assert told == text
            assert cached(others) < before["prompt_tokens"] // 2
        memory = memory_of(stack)
    assert 0 < memory["caches_bytes"] < memory["booked_bytes"]
    assert memory["anonymous_bytes"] <= memory["booked_bytes"]


def test_conversations_are_found_again_after_an_unload_and_after_a_restart(tmp_path: Path) -> None:
    kept = {"KV_CACHE_DIR": str(tmp_path / "kept")}
    headers = {"authorization": f"Bearer {KEYS['first']}"}
    with running(tmp_path, **kept) as stack:
        first = [ask(stack, conversation(number)) for number in range(N_AGENTS)]
        unload = stack.http.post("/v1/models/unload", json={"model": GUIDE}, headers=headers)
        assert unload.status_code == 200
        for number, (answer, before) in enumerate(first):
            _, usage = ask(stack, next_turn(number, answer))
            assert cached(usage) >= before["prompt_tokens"] - 1
    with running(tmp_path, **kept) as stack:
        for number, (answer, before) in enumerate(first):
            _, usage = ask(stack, next_turn(number, answer))
            assert cached(usage) >= before["prompt_tokens"] - 1
            _, others = ask(stack, conversation(number), "second")
            assert cached(others) < before["prompt_tokens"] // 2


def test_what_is_damaged_on_disk_is_said_in_the_log_and_computed_again(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with running(tmp_path, KV_CACHE_DIR=str(folder)) as stack:
        answer, _ = ask(stack, conversation(0))
    (file,) = folder.glob("*/*.kv")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with running(tmp_path, KV_CACHE_DIR=str(folder)) as stack:
        again, usage = ask(stack, conversation(0))
        assert (again, cached(usage)) == (answer, 0)
        assert "is damaged or of another version" in stack.tail()
